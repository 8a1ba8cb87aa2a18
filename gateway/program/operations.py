"""What the program asks of the whole cluster: publish, presence, history, and what is done to users."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from gateway.auth.permissions import check_payload
from gateway.brokers.base import HistoryFilter, PublishOptions
from gateway.channels import Channel, check_names
from gateway.core.cluster import NodeInfo, RefreshUser, SubscribeUser, UnsubscribeUser, disconnection, whose
from gateway.core.node import Node
from gateway.core.survey import ChannelCounts
from gateway.core.tasks import at_once
from gateway.errors import Disconnect, DisconnectCode, UnsubscribeCode
from gateway.messages import ClientInfo, Position, Publication
from gateway.program.commits import CommitOutbox, Message, Options
from gateway.program.encoding import encode_data, encode_publication
from gateway.program.routes.client import Client
from gateway.program.sockets.order import arrive

if TYPE_CHECKING:
    from gateway.program.commits import AnySession

log = logging.getLogger(__name__)


class Operations(ABC):
    """Satisfied by `Gateway`, and by what `Gateway.exclude` returns.

    Every method may raise `Error` (a channel that there is not, an option that is off) and, when Redis is away,
    `BrokerUnavailable`, which is one. Coroutines run in the gateway's event loop alone; in another, ``RuntimeError``
    says what to write, and nothing has been done.
    """

    _excluded = ""

    @property
    @abstractmethod
    def node(self) -> Node:
        """This process in the cluster."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the node runs in."""
        loop = self.node.loop
        assert loop is not None, "a gateway that runs has said so"
        return loop

    @property
    def _here(self) -> Node:
        """The node, for a coroutine to work with. Raises ``RuntimeError`` in another event loop than the node's."""
        node = self.node
        node.check_loop()
        return node

    # — channels —

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        tags: dict[str, str] | None = None,
        skip_history: bool = False,
        idempotency_key: str = "",
    ) -> Position:
        """Publish to everybody who is subscribed, on all nodes. Returns when the broker has accepted it.

        And when plain sockets of this node have been sent it, so that what they are sent next comes after it.

        ``data`` is anything that JSON can say: pydantic models, dataclasses, dict, str, …; ``bytes`` make a binary
        publication, for plain sockets of bytes. A repeat with the same ``idempotency_key`` within five minutes
        publishes nothing. Answers the position in the channel's stream; its offset is 0 without history. Raises
        ``TypeError`` for data that cannot be encoded.
        """
        node = self._here
        publication = encode_publication(data, tags)
        [resolved] = self._resolved([channel], publication)
        position = await node.publish(resolved, publication, PublishOptions(skip_history, idempotency_key))
        await arrive(node, [channel])
        return position

    async def broadcast(
        self, channels: Sequence[str], data: Any, *, tags: dict[str, str] | None = None, skip_history: bool = False
    ) -> list[Position]:
        """Publish the same to many channels.

        Nothing is published if one of the names is wrong; if the broker fails, some of them may have been served.
        """
        node = self._here
        check_names(channels)
        publication, extras = encode_publication(data, tags), PublishOptions(skip_history)
        resolved = self._resolved(channels, publication)
        positions = await at_once(lambda channel: node.publish(channel, publication, extras), resolved)
        await arrive(node, channels)
        return positions

    async def publish_to_user(self, user: str | int, data: Any, **options: Unpack[Options]) -> Position:
        """Publish to all connections of a user, by the user's personal channel; ``options`` as for ``publish``.

        Raises `SettingsError` unless ``client.subscribe_to_user_personal_channel.enabled`` is set.
        """
        return await self.publish(self._here.channels.of_user(user), data, **options)

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        """Who is subscribed, by client id. Raises `Error` (108) for a channel without ``presence``."""
        node = self._here
        return await node.presence(node.channels.resolve(channel))

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """How many clients, and how many distinct users. Raises `Error` (108) for a channel without ``presence``."""
        node = self._here
        return await node.presence_stats(node.channels.resolve(channel))

    async def history(
        self, channel: str, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> tuple[list[Publication], Position]:
        """What the channel keeps, oldest first unless ``reverse``, and its top position.

        ``limit`` -1 is all, 0 only the position; ``since`` means strictly after it (before it in ``reverse``).
        Raises `Error`: 108 for a channel without history, 112 for a position of another epoch.
        """
        node = self._here
        return await node.history(node.channels.resolve(channel), HistoryFilter(limit, since, reverse))

    async def remove_history(self, channel: str) -> None:
        """Drop what the channel keeps; its offsets go on."""
        node = self._here
        await node.remove_history(node.channels.resolve(channel))

    async def channels(self, pattern: str = "", *, limit: int = 0, cursor: str = "") -> ChannelCounts:
        """Channels with subscribers anywhere, and how many; ``pattern`` as in a shell, such as ``chat:*``.

        At most ``limit`` of them, in the order of their names, or 100,000. If there are more, what is answered has a
        ``cursor``, with which the next page begins. Its ``missing`` names the nodes that have not answered in time:
        then names and counts of theirs are left out.
        """
        if limit < 0:
            raise ValueError(f"limit = {limit} must not be negative; 0 is as many as one answer holds")
        return await self._here.cluster.survey("channels", pattern, cursor, limit)

    # — users —

    async def subscribe(self, user: str, channel: str, *, client: str = "", info: Any = None, data: Any = None) -> None:
        """Subscribe all connections of a user, or one ``client`` of it; they are told, with ``data``."""
        node = self._here
        await node.cluster.command(
            SubscribeUser(
                user=whose(user, client),
                client=client,
                channel=node.channels.resolve(channel).name,
                info=None if info is None else encode_data(info),
                data=None if data is None else encode_data(data),
            )
        )

    async def unsubscribe(self, user: str, channel: str, *, client: str = "") -> None:
        """End the subscriptions of a user, or of one ``client`` of it; they are told."""
        node = self._here
        code = UnsubscribeCode.SERVER
        name = node.channels.resolve(channel).name
        command = UnsubscribeUser(user=whose(user, client), client=client, channel=name, code=code, reason=code.reason)
        await node.cluster.command(command)

    async def disconnect(
        self,
        user: str,
        *,
        client: str = "",
        code: int = DisconnectCode.FORCE_DISCONNECT,
        reason: str | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        """Close all connections of a user, or one ``client`` of it; those in ``keep`` stay.

        Codes from 4000 to 4999 are yours; from 4500 on, and from 3500 to 3999, clients do not come back.
        """
        await self._here.cluster.command(disconnection(user, client, Disconnect(code, reason), keep))

    async def expire(self, user: str, *, client: str = "", at: int = 0) -> None:
        """Move the end of a user's connections to ``at`` (Unix seconds); 0 ends them now, to come back anew."""
        await self._here.cluster.command(
            RefreshUser(user=whose(user, client), client=client, expired=not at, expire_at=at)
        )

    @property
    def name(self) -> str:
        """This node's name, by ``node.name`` or the first letters of its id."""
        return self.node.describe().name

    def nodes(self) -> list[NodeInfo]:
        """The nodes that are alive, this one first."""
        return self.node.cluster.nodes()

    def exclude(self, client: Client | str) -> "Operations":
        """The same, but what is published does not go to this client: its own page has shown it already.

        ``await gateway.exclude(client).publish(...)``. History keeps it for everybody: a client that comes back may
        recover what it has sent itself.
        """
        return _Excluding(self, client if isinstance(client, str) else client.id)

    def on_commit(self, session: "AnySession") -> CommitOutbox:
        """What is published here leaves when the SQLAlchemy session commits, and vanishes when it rolls back ::

            gateway.on_commit(db).publish("orders:7", {"state": "paid"})

        For a ``Session``, in whatever thread, or an ``AsyncSession``. Not awaited; see `commits.CommitOutbox` for
        what is promised.
        """
        return CommitOutbox(session, self._deliver, self._check)

    def _deliver(self, message: Message) -> None:
        # the commit may come from a thread, where a synchronous route runs
        self.loop.call_soon_threadsafe(lambda: self.node.spawn(self._publish_message(message)))

    async def _publish_message(self, message: Message) -> None:
        try:
            await self.publish(message.channel, message.data, **message.options)
        except Exception:  # the transaction stands
            log.exception("a publication to %s was committed and could not be published", message.channel)

    def _check(self, message: Message) -> None:
        self._resolved([message.channel], encode_publication(message.data))

    def _resolved(self, names: Sequence[str], publication: Publication) -> list[Channel]:
        """The channels that a publication is for, if all of them take it."""
        publication.exclude = self._excluded
        channels = [self.node.channels.resolve(name) for name in names]
        for channel in channels:
            check_payload(channel.options, publication.data, known_json=not publication.binary)
        return channels


class _Excluding(Operations):
    def __init__(self, all_of_it: Operations, client: str) -> None:
        self._all_of_it = all_of_it
        self._excluded = client

    @property
    def node(self) -> Node:
        return self._all_of_it.node
