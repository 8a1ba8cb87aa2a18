"""Streams: what an asynchronous iterator yields, published piece by piece until it ends or is stopped.

A stream is a channel with history. Who subscribes late gets all of it so far, who returns gets what it missed, on
any node. Its last publication has no data but the tag ``stream``: ``done``, ``stopped`` or ``failed``.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any, Protocol

from gateway.auth.permissions import check_payload
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.core.node import NO_EXTRAS, Node
from gateway.core.tasks import being_cancelled
from gateway.errors import BrokerUnavailable, Error, ErrorCode, SettingsError
from gateway.messages import Payload, Publication, SubscribeRequest
from gateway.program.encoding import encode_publication
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.route import Route
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

log = logging.getLogger(__name__)


class Stream:
    """A stream that runs on this node. Its producer is a task; nobody needs to wait for it."""

    def __init__(self, channel: str, task: "asyncio.Task[str]") -> None:
        self.channel = channel
        """Where it is published: what the page subscribes to."""
        self._task = task
        self._stopping = False

    @property
    def running(self) -> bool:
        return not self._task.done()

    def stop(self) -> None:
        """Cancel the producer. Subscribers are told (``stopped``)."""
        if not self._stopping:  # a second time it would be cancelled while it tells them
            self._stopping = True
            # not before it has begun: a task that has not would tell nobody, and leave its source open
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def wait(self) -> str:
        """How it has ended: ``done``, ``stopped`` or ``failed``."""
        return await asyncio.shield(self._task)


class Reader(Protocol):
    """For whom a stream is made: a `Client`."""

    async def subscribe(self, channel: str) -> None: ...

    def unsubscribe(self, channel: str) -> None: ...


class Streams:
    """The streams of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._running: dict[str, Stream] = {}
        node.cluster.listeners[NOTICE] = self._stop

    def start(self, name: str, source: AsyncIterable[Any]) -> Stream:
        """Begin to publish what ``source`` yields.

        Raises `SettingsError` for a channel whose options do not keep a stream, and `Error` (106) if one is
        published there already by this node. Raises ``TypeError`` for what is no asynchronous iterator.
        """
        if not isinstance(source, AsyncIterable):
            raise TypeError(
                f"a stream is made of an asynchronous iterator, such as `async def` with `yield` makes, not {source!r}"
            )
        channel = self._node.channels.resolve(name)
        if not (channel.options.keeps_history and channel.options.replay):
            raise SettingsError(
                f'"{name}" cannot carry a stream, for latecomers would not get its beginning; declare for example '
                'gateway.channel("answers:{id}", history_size=10_000, replay=True)'
            )
        if name in self._running:
            raise Error(ErrorCode.LIMIT_EXCEEDED, f"a stream is being published to {name} already")
        task = asyncio.get_running_loop().create_task(self._produce(channel, source))
        stream = self._running[name] = Stream(name, task)
        task.add_done_callback(lambda _: self._running.pop(name, None))
        return stream

    async def start_for(self, reader: Reader, source: AsyncIterable[Any], name: str) -> Stream:
        """Begin a stream, and subscribe the reader to it; without name, to a channel of a name nobody can guess."""
        own = "" if name else UNNAMED.format(id=uuid.uuid4().hex)
        stream = self.start(name or own, source)
        try:
            await reader.subscribe(stream.channel)  # it gets what was published before, too
        except BaseException:
            stream.stop()
            raise
        if own:
            # not at once: what was published last is still on its way
            stream._task.add_done_callback(lambda _: self._node.wheel.after(LINGER, lambda: reader.unsubscribe(own)))
        return stream

    async def stop(self, name: str) -> None:
        """Stop the stream, whichever node publishes it."""
        await self._node.cluster.notify(NOTICE, name)

    async def close(self) -> None:
        """Stop all; their subscribers are told. Sources that do not close in time are given up."""
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

    async def _produce(self, channel: Channel, source: AsyncIterable[Any]) -> str:
        end = "failed"
        try:
            async for piece in source:
                publication = encode_publication(piece)
                check_payload(channel.options, publication.data, known_json=not publication.binary)
                await self._node.publish(channel, publication, NO_EXTRAS)
                await asyncio.sleep(0)  # a source that never waits must not hold up the node
                if being_cancelled():  # and the source took no notice
                    raise asyncio.CancelledError
            end = "done"
        except asyncio.CancelledError:  # which a source may raise by itself, too
            end = "stopped" if being_cancelled() else "failed"
        except BrokerUnavailable:
            log.warning("stream %s: ends, for the broker is away", channel.name)
        except Exception:
            log.exception("stream %s: failed", channel.name)
        finally:
            # a generator that is left in the middle would otherwise be closed by the garbage collector, some day
            if (close := getattr(source, "aclose", None)) is not None:
                with suppress(Exception, asyncio.CancelledError):
                    await close()
        with suppress(BrokerUnavailable):
            await self._node.publish(channel, Publication(Payload(b"null"), tags={"stream": end}), NO_EXTRAS)
        return end


UNNAMED = Pattern("gateway:stream:{id}")


def unnamed() -> Route:
    """The channels of streams that were given none. Whoever knows such a name may read it."""

    async def admit(_session: Session, _channel: Channel, _request: SubscribeRequest) -> Admitted:
        return Admitted()

    options = ChannelOptions(history_size=PIECES, history_ttl=KEPT, force_recovery=True, replay=True)
    route = Route(UNNAMED, options)
    route.subscribe = admit
    return route
