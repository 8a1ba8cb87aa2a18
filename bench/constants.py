"""What each thing that nodes ask of Redis costs it: microseconds of its processor, and bytes."""

import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from statistics import median

import msgspec
from hiredis import Reader, pack_command
from redis import Redis

from bench.redises import KEYS, held, processor_time
from bench.servers import Server, redis_server
from gateway.batches import batches
from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.calls import PUBLISH, publish_call
from gateway.messages import Payload, Publication
from gateway.redis.pubsub import CHANNELS_PER_COMMAND
from gateway.redis.resp import Argument

KEPT = StreamOptions(10, 600.0, 720 * 3600.0)
DATA = b"x" * 200
TOGETHER = 100
"""Publications that reach Redis at a time when it is busy."""
HEARERS = 100
"""Nodes that one publication goes to, where the cost of a delivery is looked for."""
SHORT_STREAMS = ("--stream-node-max-bytes", "512")
"""As docs/redis.md advises for many channels with short histories."""


class Constants(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of one server's processor, unless it says otherwise."""

    append: float
    """A publication with history, of many that come together."""
    append_alone: float
    """The same, by itself."""
    publish: float
    """A publication that is not kept, of many."""
    publish_alone: float
    delivery: float
    """Of such a one to a node, of many."""
    delivery_alone: float
    """Of one that comes by itself, to each of many nodes."""
    subscribe: float
    """A channel, named together with others."""
    subscription_bytes: float
    """A channel that one node is subscribed to."""
    further_bytes: float
    """The same for each further node."""
    stream_bytes: float
    """A channel with one publication kept."""


def measured(core: int, scale: float = 1.0) -> Constants:
    """On a server of its own at this core; ``scale`` is a part of the work of a full run."""
    with Bench(core, scale) as bench:
        bench.warm_up()
        append = bench.append(TOGETHER)
        publish, everywhere = bench.publish(0, TOGETHER), bench.publish(HEARERS, TOGETHER)
        alone, everywhere_alone = bench.publish(0, 1), bench.publish(HEARERS, 1)
        return Constants(
            append=append,
            append_alone=bench.append(1),
            publish=publish,
            publish_alone=alone,
            delivery=(everywhere - publish) / HEARERS,
            delivery_alone=(everywhere_alone - alone) / HEARERS,
            subscribe=bench.subscribe(),
            **bench.memory(),
        )


def medians(rounds: Sequence[Constants]) -> Constants:
    """Of each, over all rounds."""
    names = Constants.__struct_fields__
    return Constants(**{name: median(getattr(each, name) for each in rounds) for name in names})


class Wire:
    """A connection that sends many commands at once and waits for all the answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = Reader()

    def ask(self, commands: Sequence[tuple[Argument, ...]], answers: int = 0) -> list[object]:
        """As many ``answers`` as commands, if it is not said. Raises what Redis refuses."""
        self._socket.sendall(b"".join(pack_command(words) for words in commands))  # type: ignore[arg-type]
        found: list[object] = []
        while len(found) < (answers or len(commands)):
            self._reader.feed(self._socket.recv(1 << 16))
            while (answer := self._reader.gets()) is not False:
                if isinstance(answer, Exception):
                    raise answer
                found.append(answer)
        return found

    def drain(self) -> None:
        """Throw away what has come."""
        try:
            while len(self._socket.recv(1 << 16, socket.MSG_DONTWAIT)) == 1 << 16:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()


class Bench:
    """One server, and what is tried on it."""

    def __init__(self, core: int, scale: float) -> None:
        self._core, self._scale = core, scale
        self._stack = ExitStack()
        self._numbers = iter(range(1 << 40))

    def __enter__(self) -> "Bench":
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-"))
        self._server: Server = self._stack.enter_context(redis_server(self._core, directory, *SHORT_STREAMS))
        self._wire = self._stack.enter_context(closing(Wire(self._server.port)))
        self._wire.ask([("SCRIPT", "LOAD", PUBLISH.text)])
        self._held = held(self._server.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        self.append(TOGETHER)

    def append(self, together: int) -> float:
        """Into a thousand channels, in turn; nobody hears."""
        count = self._count(20_000 if together > 1 else 4_000)
        commands = [self._append(f"inbox:{number % 1000}") for number in range(count)]
        return self._cost(count, lambda: self._send(commands, together))

    def publish(self, hearers: int, together: int) -> float:
        name = KEYS.of(b"c", "news")
        count = self._count(4_000 if together > 1 else 1_000)
        commands: list[tuple[Argument, ...]] = [("PUBLISH", name, DATA)] * count
        with self._hearing(hearers, [name]) as wires:

            def send() -> None:
                for some in batches(commands, together):
                    self._wire.ask(some)
                    for wire in wires:
                        wire.drain()

            return self._cost(count, send)

    def subscribe(self) -> float:
        count = self._count(50_000)
        names = list(self._names(count))
        with closing(Wire(self._server.port)) as wire:
            return self._cost(count, lambda: _subscribe(wire, names))

    def memory(self) -> dict[str, float]:
        count = self._count(20_000)
        names = list(self._names(count))
        with self._hearing(1, ["nothing"]) as (one,), self._hearing(1, ["nothing"]) as (other,):
            before = self._used()
            _subscribe(one, names)
            first = self._used()
            _subscribe(other, names)
            second = self._used()
        commands = [self._append(f"kept:{next(self._numbers)}") for _ in range(count)]
        kept = self._used()
        self._send(commands, TOGETHER)
        return {
            "subscription_bytes": (first - before) / count,
            "further_bytes": (second - first) / count,
            "stream_bytes": (self._used() - kept) / count,
        }

    def _names(self, count: int) -> Iterator[bytes]:
        """Of so many inboxes, all of them new."""
        return (KEYS.of(b"c", f"inbox:#user-{number:09}") for number in islice(self._numbers, count))

    @contextmanager
    def _hearing(self, count: int, names: Sequence[Argument]) -> Iterator[list[Wire]]:
        with ExitStack() as stack:
            wires = [stack.enter_context(closing(Wire(self._server.port))) for _ in range(count)]
            for wire in wires:
                _subscribe(wire, names)
            yield wires

    def _append(self, channel: str) -> tuple[Argument, ...]:
        call = publish_call(KEYS, channel, Publication(data=Payload(DATA)), KEPT, PublishOptions(), 0.0)
        return PUBLISH.by_digest(call.keys, call.args, self._held)

    def _send(self, commands: Sequence[tuple[Argument, ...]], together: int) -> None:
        for some in batches(commands, together):
            self._wire.ask(some)

    def _cost(self, count: int, work: Callable[[], None]) -> float:
        before = processor_time(self._server.port)
        work()
        return 1e6 * (processor_time(self._server.port) - before) / count

    def _count(self, full: int) -> int:
        return max(TOGETHER, int(full * self._scale))

    def _used(self) -> int:
        with closing(Redis(port=self._server.port)) as redis:
            return int(redis.info("memory")["used_memory"])


def _subscribe(wire: Wire, names: Sequence[Argument]) -> None:
    for some in batches(names, CHANNELS_PER_COMMAND):
        wire.ask([("SUBSCRIBE", *some)], answers=len(some))
