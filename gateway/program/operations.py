"""What the program asks of the whole cluster: publish, presence, history, and what is done to users."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

from gateway import messages
from gateway.blocks.base import block_seconds
from gateway.brokers.base import HistoryFilter, PublishOptions
from gateway.channels import Channel, check_names
from gateway.core.cluster import (
    NodeInfo,
    RefreshUser,
    SendMessage,
    SubscribeUser,
    UnsubscribeUser,
    disconnection,
    named,
    whose,
)
from gateway.core.node import Node
from gateway.core.survey import ChannelCounts
from gateway.core.tasks import at_once
from gateway.errors import Disconnect, DisconnectCode, Error, UnsubscribeCode
from gateway.messages import Exclusion, Position, Receipt
from gateway.presence.base import Members
from gateway.program.commits import CommitOutbox, Message
from gateway.program.encoding import encode_data, encode_publication
from gateway.program.errors import (
    check_history,
    check_map,
    check_presence,
    check_publication,
    check_version,
    find_channel,
    history_error,
)
from gateway.program.maps import MapHandle
from gateway.program.routes.client import Client
from gateway.program.routes.handle import AnyClient, Options
from gateway.program.routes.named_events import ChannelEvent, Named
from gateway.program.routes.program import Program
from gateway.program.sockets.connection import PlainConnection
from gateway.program.sockets.order import arrive, arrive_at
from gateway.program.typed import ClientInfo, Publication

if TYPE_CHECKING:
    from gateway.program.commits import AnySession

log = logging.getLogger(__name__)


class Operations(ABC):
    """Satisfied by `Gateway`, and by what `Gateway.exclude` returns.

    Methods that name a channel may raise `ChannelError`, an `Error` whose text says what to write: there is no such
    channel, or an option is off; and all, when Redis is away, `BrokerUnavailable`, which is an `Error` as well.
    Coroutines run in the gateway's event loop alone; in another, ``RuntimeError`` says what to write, and nothing has
    been done.
    """

    _exclusion: Exclusion | None = None
    _program: Program

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
        exclude: AnyClient | Collection[AnyClient] | None = None,
        delta: bool = False,
        version: int = 0,
        version_epoch: str = "",
    ) -> Receipt:
        """Publish to everybody who is subscribed, on all nodes. Returns when the broker has accepted it.

        And when plain sockets of this node have been sent it, so that what they are sent next comes after it.

        ``data`` is anything that JSON can say: pydantic models, dataclasses, dict, str, …; ``bytes`` make a binary
        publication, for plain sockets of bytes. A repeat with the same ``idempotency_key`` within five minutes
        publishes nothing; nor does a ``version`` that is no newer than the latest of the same ``version_epoch`` in the
        channel's history. With ``delta`` clients that have negotiated it may be sent what has changed alone.
        ``exclude`` does without one client or several, see `exclude`. Answers where the
        publication stands in the channel's stream (``offset`` 0 without history), and how many ``nodes`` took it, none
        of them if nobody is subscribed. What cannot be sent waits for the broker for ``engine.publish_wait``; then
        ``BrokerUnavailable`` says, as ``stored``, whether it may have been published all the same. Raises ``TypeError``
        for data that cannot be encoded.
        """
        node = self._here
        publication = encode_publication(data, tags)
        [resolved] = self.exclude(*_several(exclude))._resolved([channel], publication)
        check_version(version)
        extras = PublishOptions(skip_history, idempotency_key, version, version_epoch, delta=delta or None)
        receipt = await node.publish(resolved, publication, extras)
        await arrive(node, [channel])
        return receipt

    @overload
    async def publish_event(
        self, channel: str, event: ChannelEvent[Named], data: Named, **options: Unpack[Options]
    ) -> Receipt: ...
    @overload
    async def publish_event(self, channel: str, event: str, data: Any, **options: Unpack[Options]) -> Receipt: ...
    async def publish_event(
        self, channel: str, event: ChannelEvent[Any] | str, data: Any, **options: Unpack[Options]
    ) -> Receipt:
        """Publish an event that the channel's route declares, cut to its type; ``options`` as for ``publish``.

        Raises ``LookupError`` for an event that there is not, and ``pydantic.ValidationError`` for other data.
        """
        node = self._here
        name = event if isinstance(event, str) else event.name
        route = self._program.route(node.channels.resolve(channel))
        if route is None or not route.named_events:
            raise LookupError(f'"{channel}" has no events: declare gateway.channel(...).event("{name}", Model)')
        return await self.publish(channel, route.encode_event(name, data), **options)

    async def broadcast(
        self,
        channels: Sequence[str],
        data: Any,
        *,
        tags: dict[str, str] | None = None,
        skip_history: bool = False,
        exclude: AnyClient | Collection[AnyClient] | None = None,
    ) -> list[Receipt]:
        """Publish the same to many channels.

        Nothing is published if one of the names is wrong; if the broker fails, some of them may have been served.
        """
        node = self._here
        check_names(channels)
        publication, extras = encode_publication(data, tags), PublishOptions(skip_history)
        resolved = self.exclude(*_several(exclude))._resolved(channels, publication)
        receipts = await at_once(lambda channel: node.publish(channel, publication, extras), resolved)
        await arrive(node, channels)
        return receipts

    async def publish_to_user(self, user: str | int, data: Any, **options: Unpack[Options]) -> Receipt:
        """Publish to all connections of a user, by the user's personal channel; ``options`` as for ``publish``.

        Raises `SettingsError` unless ``client.subscribe_to_user_personal_channel.enabled`` is set.
        """
        return await self.publish(self._here.channels.of_user(user), data, **options)

    async def send(self, client: AnyClient, data: Any) -> None:
        """Send to one connection, on whichever node it is; nothing happens if it has gone.

        The JavaScript SDK tells of it in ``client.on("message")``; plain sockets get it as a publication. It arrives
        behind what the same coroutine has published before; during ``on_connect``, behind the answer to connect. Every
        node looks whether it is meant: what is for a user, and what is much, is better published to a channel. Raises
        ``TypeError`` for data that cannot be encoded.
        """
        node = self._here
        [client_id] = _ids([client])
        message = encode_publication(data)
        command = SendMessage(client=client_id, data=message.data, binary=message.binary)
        if not (isinstance(client, Client) and client.defer(command)):
            await node.cluster.command_in_turn(command)
            await arrive_at(node, client_id)

    async def presence(self, channel: str) -> Members[ClientInfo]:
        """Who is subscribed, by client id. Raises `ChannelError` (108) for a channel without ``presence``.

        Where nodes are asked (``engine.type = "broadcaster"``) it is ``partial`` if some have not answered in time.
        """
        node = self._here
        found = check_presence(find_channel(node.channels, channel))
        types = self._program.types(found)
        members = await node.presence(found)
        return Members.of({client: ClientInfo(info, types) for client, info in members.items()}, members)

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """How many clients, and how many distinct users. Raises `ChannelError` (108) without ``presence``."""
        node = self._here
        return await node.presence_stats(check_presence(find_channel(node.channels, channel)))

    async def history(
        self, channel: str, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> tuple[list[Publication], Position]:
        """What the channel keeps, oldest first unless ``reverse``, and its top position.

        ``limit`` -1 is all, 0 only the position; ``since`` means strictly after it (before it in ``reverse``).
        Raises `ChannelError`: 108 for a channel without history, 112 for a position of another epoch.
        """
        node = self._here
        found = check_history(find_channel(node.channels, channel))
        try:
            publications, top = await node.history(found, HistoryFilter(limit, since, reverse))
        except Error as error:
            raise history_error(found, since, error) from None
        types = self._program.types(found)
        return [Publication(each, types) for each in publications], top

    async def remove_history(self, channel: str) -> None:
        """Drop what the channel keeps; its offsets go on."""
        node = self._here
        await node.remove_history(check_history(find_channel(node.channels, channel)))

    async def channels(self, pattern: str = "", *, limit: int = 0, cursor: str = "") -> ChannelCounts:
        """Channels with subscribers anywhere, and how many; ``pattern`` as in a shell, such as ``chat:*``.

        At most ``limit`` of them, in the order of their names, or 100,000. If there are more, what is answered has a
        ``cursor``, with which the next page begins. Its ``missing`` names the nodes that have not answered in time:
        then names and counts of theirs are left out.
        """
        if limit < 0:
            raise ValueError(f"limit = {limit} must not be negative; 0 is as many as one answer holds")
        return await self._here.cluster.survey("channels", pattern, cursor, limit)

    def map(self, channel: str) -> MapHandle[Any]:
        """A map, to write and to read: what each of its keys has. Raises `ChannelError` for a channel that is none."""
        found = check_map(find_channel(self.node.channels, channel))
        return MapHandle(self.node, found, self._program.types(found))

    # — users —

    async def subscribe(
        self, user: str | int, channel: str, *, client: str = "", info: Any = None, data: Any = None
    ) -> None:
        """Subscribe all connections of a user, or one ``client`` of it; they are told, with ``data``."""
        node = self._here
        await node.cluster.command(
            SubscribeUser(
                user=whose(user, client),
                client=client,
                channel=find_channel(node.channels, channel).name,
                info=None if info is None else encode_data(info),
                data=None if data is None else encode_data(data),
            )
        )

    async def unsubscribe(self, user: str | int, channel: str, *, client: str = "") -> None:
        """End the subscriptions of a user, or of one ``client`` of it; they are told."""
        node = self._here
        code = UnsubscribeCode.SERVER
        name = find_channel(node.channels, channel).name
        command = UnsubscribeUser(user=whose(user, client), client=client, channel=name, code=code, reason=code.reason)
        await node.cluster.command(command)

    async def disconnect(
        self,
        user: str | int = "",
        *,
        client: str = "",
        code: int = DisconnectCode.FORCE_DISCONNECT,
        reason: str | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        """Close all connections of a user, or one ``client`` alone, on all nodes; those in ``keep`` stay.

        Codes from 4000 to 4999 are yours; from 4500 on, and from 3500 to 3999, clients do not come back.
        """
        await self._here.cluster.command(disconnection(user, client, Disconnect(code, reason), keep))

    async def block(self, user: str | int, *, for_: float | timedelta | None = None) -> None:
        """Keep a user out: close all its connections, and let it into no node, for so many seconds, or until `unblock`.

        Clients get disconnect 3510, after which they do not come back by themselves. The list outlives all nodes (in
        Redis; with the memory engine it ends with the process). A second block of a user takes the place of the first.
        Raises ``ValueError`` for anonymous clients, which are no user, and `Error` (106) beyond 100,000 users: whom a
        program keeps out for good, its ``on_connect`` refuses by itself.
        """
        await self._here.blocked.store.block(named(user), block_seconds(for_))

    async def unblock(self, user: str | int) -> None:
        """Let a user in again; nothing happens if it is not blocked."""
        await self._here.blocked.store.unblock(named(user))

    async def blocked(self, *, limit: int = 1000, cursor: str = "") -> tuple[dict[str, float], str]:
        """Users that are blocked, each with the end of it (Unix seconds, or ``inf``), in the order of their ids.

        And the cursor of the next page, empty after the last.
        """
        if limit < 1:
            raise ValueError(f"limit = {limit} must be at least 1")
        return self._here.blocked.page(limit, cursor)

    async def expire(self, user: str | int, *, client: str = "", at: int = 0) -> None:
        """Move the end of a user's connections to ``at`` (Unix seconds); 0 ends them now, to come back anew."""
        await self._here.cluster.command(
            RefreshUser(user=whose(user, client), client=client, expired=not at, expire_at=at)
        )

    @property
    def name(self) -> str:
        """This node's name, by ``node.name`` or the first letters of its id."""
        return self.node.name

    def nodes(self) -> list[NodeInfo]:
        """The nodes that are alive, this one first."""
        return self.node.cluster.nodes()

    def exclude(self, *clients: AnyClient, user: str | int | None = None) -> "Operations":
        """The same, but what is published does not go to these clients: their own pages have shown it already ::

            await gateway.exclude(client).publish(...)  # or publish(..., exclude=client)
            await gateway.exclude(user="7").publish(...)  # to none of the user's connections

        One ``exclude`` may follow another: both hold. History keeps the publication for everybody: a client that
        comes back may recover what it has sent itself. Raises ``ValueError`` for anonymous clients, which are no user.
        """
        if not clients and user is None:
            return self
        former = self._exclusion or Exclusion()
        users = former.users if user is None else (*former.users, named(user))
        return _Excluding(self, Exclusion((*former.clients, *_ids(clients)), users))

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

    def _resolved(self, names: Sequence[str], publication: messages.Publication) -> list[Channel]:
        """The channels that a publication is for, if all of them take it."""
        publication.exclude = self._exclusion
        channels = [find_channel(self.node.channels, name) for name in names]
        for channel in channels:
            check_publication(channel, publication)
        return channels


class _Excluding(Operations):
    def __init__(self, all_of_it: Operations, exclusion: Exclusion) -> None:
        self._all_of_it = all_of_it
        self._exclusion = exclusion
        self._program = all_of_it._program

    @property
    def node(self) -> Node:
        return self._all_of_it.node


def _several(clients: AnyClient | Collection[AnyClient] | None) -> Sequence[AnyClient]:
    if clients is None:
        return ()
    return list(clients) if isinstance(clients, list | tuple | set | frozenset) else [cast(AnyClient, clients)]


def _ids(clients: Sequence[AnyClient]) -> Iterator[str]:
    for each in clients:
        if isinstance(each, Client | PlainConnection):
            yield each.id
        elif isinstance(each, str):
            yield each
        else:
            raise TypeError(
                f"a client is the Client of a handler, the connection of gateway.attach, or its id, not {each!r}; "
                'all connections of a user: gateway.exclude(user="7"), gateway.publish_to_user("7", data)'
            )
