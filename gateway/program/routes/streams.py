"""Streams: what an asynchronous iterator yields, published piece by piece until it ends or is stopped.

A stream is a channel with history. Who subscribes late gets all of it so far, who returns gets what it missed, on
any node. Its last publication has no data but the tag ``stream``: ``done``, ``stopped`` or ``failed``. While the
broker is away, the stream waits: each publication is tried again, and reaches its channel once.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any, Generic, Protocol

from gateway.auth.permissions import check_payload
from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.core.node import Node
from gateway.core.tasks import being_cancelled
from gateway.errors import BrokerUnavailable, Error, ErrorCode, SettingsError
from gateway.messages import Payload, Publication, SubscribeRequest
from gateway.program.encoding import encode_publication
from gateway.program.errors import find_channel
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.route import Route
from gateway.program.routes.unread import UnreadStreams
from gateway.program.typed import T
from gateway.session import Session
from gateway.session.application import Admitted

NOTICE = "stop stream"

PIECES = 10_000
"""Pieces of a stream that has no channel of the program's that are kept."""

KEPT = 600.0
"""Seconds for which they are."""

LINGER = 5.0
"""Seconds for which a client stays subscribed to its stream after the end."""

CLOSING = 5.0
"""Seconds that sources have to close when the node stops."""

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 8)
"""Seconds, on average, between one attempt to publish and the next: some twenty in all, for a failover or a restart."""

REMEMBERED = 60.0
"""Seconds for which the broker knows each piece that it has accepted: longer than any is tried again."""

log = logging.getLogger(__name__)


class Stream(Generic[T]):
    """A stream that runs on this node. Its producer is a task; nobody needs to wait for it.

    ``gateway.channel(pattern, message=Stream[str], …)`` declares a channel of such, whose publications are pieces, and
    null at the end.
    """

    def __init__(self, outlet: "Outlet", source: AsyncIterable[T]) -> None:
        self.channel = outlet.channel.name
        """Where it is published: what the page subscribes to."""
        self._outlet = outlet
        self._source = source
        self._stoppable = True
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def running(self) -> bool:
        return not self._task.done()

    def stop(self) -> None:
        """Cancel the producer. Subscribers are told (``stopped``)."""
        # not before it has begun: a task that has not would tell nobody, and leave its source open
        self._task.get_loop().call_soon_threadsafe(self._stop)

    async def wait(self) -> str:
        """How it has ended: ``done``, ``stopped`` or ``failed``."""
        return await asyncio.shield(self._task)

    def _stop(self) -> None:
        if self._stoppable:
            self._stoppable = False
            self._task.cancel()

    async def _run(self) -> str:
        end = await self._play()
        self._stoppable = False  # a stop would come between the end and those who are told of it
        try:
            await self._outlet.put(Publication(Payload(b"null"), tags={"stream": end}))
        except (BrokerUnavailable, asyncio.CancelledError):
            log.warning("stream %s: %s, and nobody could be told: the broker is away", self.channel, end)
        return end

    async def _play(self) -> str:
        """Publish what the source yields; answers how it has ended."""
        options = self._outlet.channel.options
        try:
            async for piece in self._source:
                publication = self._outlet.publication(piece)
                check_payload(options, publication.data, known_json=not publication.binary)
                await self._outlet.put(publication)
                await asyncio.sleep(0)  # a source that never waits must not hold up the node
                if being_cancelled():  # and the source took no notice
                    return "stopped"
        except asyncio.CancelledError:  # which a source may raise by itself, too
            return "stopped" if being_cancelled() else "failed"
        except BrokerUnavailable:
            log.warning("stream %s: ends, for the broker stays away", self.channel)
            return "failed"
        except Exception:
            log.exception("stream %s: failed", self.channel)
            return "failed"
        finally:
            # a generator that is left in the middle would otherwise be closed by the garbage collector, some day
            if (close := getattr(self._source, "aclose", None)) is not None:
                with suppress(Exception, asyncio.CancelledError):
                    await close()
        return "done"


class Outlet:
    """Publishes to one channel in order, and everything once, however often it takes."""

    def __init__(self, node: Node, channel: Channel) -> None:
        self.channel = channel
        self._node = node
        self._name = uuid.uuid4().hex
        self._count = 0

    def publication(self, piece: Any) -> Publication:
        """What is published for a piece, of the type that the channel declares."""
        if isinstance(route := self.channel.route, Route) and not (piece is None or isinstance(piece, bytes)):
            piece = route.encode(piece)
        return encode_publication(piece)

    async def put(self, publication: Publication) -> None:
        """Publish, again while the broker is away. Raises ``BrokerUnavailable`` if it stays away."""
        self._count += 1
        once = PublishOptions(idempotency_key=f"{self._name}:{self._count}", idempotency_ttl=REMEMBERED)
        for pause in PAUSES:
            try:
                await self._node.publish(self.channel, publication, once)
                return
            except BrokerUnavailable:
                await self._pause(pause * random.uniform(0.5, 1.5))  # noqa: S311  spreads, hides nothing
        await self._node.publish(self.channel, publication, once)

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._node.wheel.after(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()


class Reader(Protocol):
    """For whom a stream is made: a `Client`."""

    @property
    def connected(self) -> bool: ...

    async def subscribe(self, channel: str) -> None: ...

    def unsubscribe(self, channel: str) -> None: ...


class Streams:
    """The streams of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._running: dict[str, Stream[Any]] = {}
        self._unread = UnreadStreams(node)
        self._closed = False
        node.cluster.listeners[NOTICE] = self._stop

    def start(self, name: str, source: AsyncIterable[T], stop_when_unread: float | None = None) -> Stream[T]:
        """Begin to publish what ``source`` yields, until nobody has read it for ``stop_when_unread`` seconds.

        Raises `SettingsError` for a channel whose options do not keep a stream, and `Error` (106) if one is
        published there already by this node. Raises ``TypeError`` for what is no asynchronous iterator.
        """
        if not isinstance(source, AsyncIterable):
            raise TypeError(
                f"a stream is made of an asynchronous iterator, such as `async def` with `yield` makes, not {source!r}"
            )
        if stop_when_unread is not None and not stop_when_unread > 0:
            raise ValueError(f"stop_when_unread = {stop_when_unread!r} is a number of seconds, for example 30")
        channel = find_channel(self._node.channels, name)
        if not (channel.options.keeps_history and channel.options.replay):
            raise SettingsError(
                f'"{name}" cannot carry a stream, for latecomers would not get its beginning; declare for example '
                'gateway.channel("answers:{id}", history_size=10_000, replay=True)'
            )
        if name in self._running:
            raise Error(ErrorCode.LIMIT_EXCEEDED, f"a stream is being published to {name} already")
        stream = Stream(Outlet(self._node, channel), source)
        self._running[name] = stream
        stream._task.add_done_callback(lambda _: self._forget(stream))
        if stop_when_unread is not None:
            self._unread.watch(stream, stop_when_unread)
        if self._closed:
            stream.stop()
        return stream

    async def start_for(
        self, reader: Reader, source: AsyncIterable[T], name: str, stop_when_unread: float | None = None
    ) -> Stream[T]:
        """Begin a stream, and subscribe the reader to it; without name, to a channel of a name nobody can guess."""
        own = "" if name else UNNAMED.format(id=uuid.uuid4().hex)
        stream = self.start(name or own, source, stop_when_unread)
        try:
            await reader.subscribe(stream.channel)  # it gets what was published before, too
        except BaseException:
            stream.stop()
            raise
        if not reader.connected:
            stream.stop()
        if own:
            # not at once: what was published last is still on its way
            stream._task.add_done_callback(lambda _: self._node.wheel.after(LINGER, lambda: reader.unsubscribe(own)))
        return stream

    async def stop(self, name: str) -> None:
        """Stop the stream, whichever node publishes it."""
        await self._node.cluster.notify(NOTICE, name)

    async def close(self) -> None:
        """Stop all, and those to come; their subscribers are told. Sources that do not close in time are given up."""
        self._closed = True
        streams = list(self._running.values())
        for stream in streams:
            stream.stop()
        if streams:
            _, stuck = await asyncio.wait([stream._task for stream in streams], timeout=CLOSING)
            for task in stuck:
                task.cancel()

    def _stop(self, name: str) -> None:
        stream = self._running.get(name)
        if stream is not None:
            stream.stop()

    def _forget(self, stream: Stream[Any]) -> None:
        del self._running[stream.channel]
        self._unread.forget(stream)


UNNAMED = Pattern("gateway:stream:{id}")


def unnamed() -> Route:
    """The channels of streams that were given none. Whoever knows such a name may read it."""

    async def admit(_session: Session, _channel: Channel, _request: SubscribeRequest) -> Admitted:
        return Admitted()

    options = ChannelOptions(history_size=PIECES, history_ttl=KEPT, force_recovery=True, replay=True)
    route = Route(UNNAMED, options)
    route.subscribe = admit
    return route
