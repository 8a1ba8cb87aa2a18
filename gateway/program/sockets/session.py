"""The session of a plain client: it gives no commands, the application's code decides for it."""

from gateway.auth.permissions import Features
from gateway.auth.tokens import Grant
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Payload, Publication, Push
from gateway.program.errors import check_history, find_channel
from gateway.session import Session, State
from gateway.session.application import Admitted
from gateway.session.subscription import Subscription

RESTART, EXPIRED = 1012, 4001
"""Close codes of a node that stops (RFC 6455's registry), and of a token whose time has passed."""

CODES: dict[int, tuple[int, str]] = {
    DisconnectCode.SHUTDOWN: (RESTART, "service restart"),
    DisconnectCode.EXPIRED: (EXPIRED, "token expired"),
}
"""What plain clients know by other codes than those of the SDKs."""


class PlainSession(Session):
    """Connected from the start. Delivery is at most once: a plain client could not say what it has missed.

    So its subscriptions have a position no longer than it takes to replay: then what comes is theirs, gap or no gap.
    """

    __slots__ = ()

    def begin(self) -> None:
        """Nothing is expected of the client: no connect command, no pong."""
        self.heartbeat.cancel()
        self.to(State.CONNECTED)

    def push(self, channel: str, push: Push) -> None:
        if type(push) is Publication:  # the rest is for clients that know of channels
            try:
                super().push(channel, push)
            except Disconnect:
                self.node.hub.pass_over(channel)

    def disconnect(self, reason: Disconnect) -> None:
        known = CODES.get(reason.code)
        super().disconnect(Disconnect(*known) if known else reason)


async def subscribe(session: PlainSession, name: str, info: Payload | None, replay: int | None) -> None:
    """Join a channel, after the newest ``replay`` of what it keeps; None leaves that to the channel's options.

    Nothing is missing between what was kept and what comes, and nothing comes twice. Raises ``Error``, and
    ``Disconnect`` when the stream breaks meanwhile.
    """
    if name in session.subscriptions:
        return
    if len(session.subscriptions) >= session.node.settings.client.channel_limit:
        raise Error(ErrorCode.LIMIT_EXCEEDED)
    subscription = _wanted(session, name, info, replay)
    await subscription.open()
    for publication in subscription.result().publications[-replay if replay else None :]:
        session.push(name, publication)
    subscription.positioned = False
    subscription.start()


async def unsubscribe(session: PlainSession, name: str) -> None:
    subscription = session.subscriptions.get(name)
    if subscription is not None:
        subscription.end()
        await subscription.over()


def _wanted(session: PlainSession, name: str, info: Payload | None, replay: int | None) -> Subscription:
    channel = find_channel(session.node.channels, name)
    options = channel.options
    replays = options.replay if replay is None else replay > 0
    if replay:
        check_history(channel)
    subscription = Subscription(session, channel, server_side=True)
    subscription.admit(Admitted(Grant(info)), Features(positioned=replays and options.keeps_history))
    if replays != options.replay:
        subscription.options = options.model_copy(update={"replay": replays})
    return subscription
