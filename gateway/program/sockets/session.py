"""The session of a plain client: it gives no commands, the application's code decides for it."""

from typing import NamedTuple

from msgspec.structs import replace

from gateway.auth.permissions import Features
from gateway.auth.tokens import Grant
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import Payload, Position, Publication, Push
from gateway.program.errors import check_history, find_channel
from gateway.program.sockets.inbox import Inbox
from gateway.protocols.objects import OBJECTS, Delivery
from gateway.session import Session, State
from gateway.session.application import Admitted
from gateway.session.subscription import Subscription

RESTART, EXPIRED = 1012, 4001
"""Close codes of a node that stops, or is cut off (RFC 6455's registry), and of a token whose time has passed."""

CODES: dict[int, tuple[int, str]] = {
    DisconnectCode.SHUTDOWN: (RESTART, "service restart"),
    DisconnectCode.FORCE_RECONNECT: (RESTART, "service restart"),
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
        """Send one publication of before; the rest is for clients that know of channels."""
        if type(push) is Publication:
            try:
                encoded = self.wire.protocol.encode_push(channel, push)
            except Disconnect:
                self.node.hub.pass_over(channel)
                return
            delivery = Delivery.of(channel, push, encoded)  # the program may want it in place of the client
            delivery.recovered = True
            self.node.hub.post(self, delivery)

    def close(self, reason: Disconnect) -> None:
        """Close as the program says, in its own words."""
        super().disconnect(reason)

    def disconnect(self, reason: Disconnect) -> None:
        known = CODES.get(reason.code)
        super().disconnect(Disconnect(*known) if known else reason)


class Wanted(NamedTuple):
    """How a channel is to be heard."""

    info: Payload | None = None
    """What presence shows."""
    replay: int | None = None
    """How many of the newest come first; None leaves that to the channel's options."""
    since: Position | None = None
    """What came after this comes first instead, if the channel still has all of it."""
    shown: bool = False
    """Whether it appears in presence, whatever the channel's options say."""


class Subscribed(NamedTuple):
    """Where a new subscription stands in the channel's stream, after what came first."""

    offset: int = 0
    epoch: str = ""
    recovered: bool = False
    """Whether nothing is missing since the position that was asked for."""

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)


async def subscribe(session: PlainSession, name: str, wanted: Wanted) -> Subscribed:
    """Join a channel, after what it keeps and is wanted.

    Nothing is missing between what was kept and what comes, and nothing comes twice. Raises ``Error``, and
    ``Disconnect`` when the stream breaks meanwhile.
    """
    if name in session.subscriptions:
        return Subscribed()
    if len(session.subscriptions) >= session.node.settings.client.channel_limit:
        raise Error(ErrorCode.LIMIT_EXCEEDED)
    subscription = _subscription(session, name, wanted)
    await subscription.open()
    anew = subscription.found is not None and subscription.found.replayed
    result = subscription.result()
    recovered = result.was_recovering and result.recovered and not anew
    position = subscription.found.position if subscription.found else Position()
    for publication in result.publications[-wanted.replay if wanted.replay and not recovered else None :]:
        session.push(name, replace(publication, epoch=position.epoch))
    subscription.positioned = False
    subscription.start()
    return Subscribed(position.offset, position.epoch, recovered)


def redirect(session: PlainSession, inbox: Inbox) -> None:
    """Have the program get what the client would, what waits for it included."""
    hub = session.node.hub
    waiting = session.outbox or []
    session.outbox = [each for each in waiting if not isinstance(each, Delivery)]  # of no channel
    hub.flush()  # what was published before the call is the client's
    session.wire, session.transport = OBJECTS, inbox
    for subscription in [each for each in session.subscriptions.values() if each.live]:
        channel = hub.channels[subscription.channel]
        [key] = [key for key, audience in channel.audiences.items() if subscription in audience.members]
        hub.leave(subscription)
        hub.join(subscription)
        hub.enter(subscription, key.behind or channel.position)
    inbox.send([each for each in waiting if isinstance(each, Delivery)])


async def unsubscribe(session: PlainSession, name: str) -> None:
    subscription = session.subscriptions.get(name)
    if subscription is not None:
        subscription.end()
        await subscription.over()


def _subscription(session: PlainSession, name: str, wanted: Wanted) -> Subscription:
    channel = find_channel(session.node.channels, name)
    options, since = channel.options, wanted.since
    replays = options.replay if wanted.replay is None else wanted.replay > 0
    if wanted.replay or since:
        check_history(channel)
    subscription = Subscription(session, channel, since, server_side=True)
    reads = options.keeps_history and (wanted.replay is not None or replays or since is not None)
    subscription.admit(Admitted(Grant(wanted.info)), Features(positioned=reads, recoverable=since is not None))
    asked = {"replay": replays, "presence": options.presence or wanted.shown}
    if any(getattr(options, option) != value for option, value in asked.items()):
        subscription.options = options.model_copy(update=asked)
    return subscription
