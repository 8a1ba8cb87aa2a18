"""A server of Redis is restarted, and a node subscribes to all its channels again: how long, and who notices."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import count, islice

from hiredis import pack_command
from redis import Redis
from redis.exceptions import RedisError
from websockets.asyncio.client import ClientConnection, connect

from bench.injection import Commands
from bench.measures import Run, Values
from bench.redises import KEYS, Layout
from bench.servers import Failed, Server
from gateway.batches import batches
from gateway.brokers.envelope import WITHOUT_OFFSET
from gateway.messages import Payload, Publication, pack
from gateway.redis.pubsub import CLASSIC, SHARDED

CHANNELS = 100_000
"""At the server that is restarted."""
OF_A_CLIENT, IN_A_FRAME = 1_000, 100
PAUSE = 0.005
"""Seconds between two publications to a live channel."""
LATE = 1.0
"""Seconds for what is still on its way."""
DEADLINE = 60.0

AGAIN, FIRST, HELD = "s until all are subscribed", "s until the live one is", "channels"
BEFORE, HERE, THERE = "live p99 before (ms)", "live p99 since then (ms)", "live p99 at another server (ms)"
MISSED = "missed there"


def resubscribe(run: Run) -> Values:
    """Restarts the first server, while messages go by a channel of it, and by one of the next if there is one."""
    return asyncio.run(_measure(run))


async def _measure(run: Run) -> Values:
    layout, server, number = run.redises.layout, run.redises.servers[0], run.count(CHANNELS)
    url = f"ws://127.0.0.1:{run.server.port}{run.system.dialect.path}"
    live = [Live(layout, place, each) for place, each in enumerate(run.redises.servers[:2])]
    async with AsyncExitStack() as stack:
        for some in batches(named(layout, 0, "held", number), OF_A_CLIENT):
            await stack.enter_async_context(subscribed(url, some))
        for each in live:
            await stack.enter_async_context(each.going_on(url))
        before, began = subscriptions(server), time.monotonic()
        if before < number:
            raise Failed(f"only {before} channels are subscribed\n{run.server.log}")
        await asyncio.sleep(run.seconds)
        lost = time.monotonic()
        await asyncio.to_thread(server.restart)
        await _until(lambda: subscriptions(server) >= before, run)
        done = time.monotonic()
        await _until(lambda: live[0].arrivals[-1].sent > live[0].back, run)
        await asyncio.sleep(run.seconds + LATE)
    here, back = live[0], live[0].back
    first = next(each.arrived for each in here.arrivals if each.sent > back)
    figures = {AGAIN: done - back, FIRST: first - back, HELD: float(number)}
    figures |= {BEFORE: here.p99(began, lost), HERE: here.p99(first, max(done, first + run.seconds))}
    for there in live[1:]:
        figures |= {THERE: there.p99(lost, done), MISSED: float(there.missed(lost, done))}
    return figures


async def _until(happened: Callable[[], bool], run: Run) -> None:
    until = time.monotonic() + DEADLINE
    while not await asyncio.to_thread(happened):
        if time.monotonic() > until:
            raise Failed(f"not everything is subscribed again after {DEADLINE:g} s\n{run.server.log}")
        await asyncio.sleep(PAUSE)


def named(layout: Layout, place: int, kind: str, number: int) -> Iterator[str]:
    """Names of so many channels that one server keeps."""
    return islice((name for each in count() if layout.place(name := f"{kind}-{each}") == place), number)


def subscriptions(server: Server) -> int:
    """Of all connections at a server; none while it is away."""
    try:
        with closing(Redis(port=server.port)) as redis:
            return sum(int(each["sub"]) + int(each.get("ssub", 0)) for each in redis.client_list("pubsub"))
    except (RedisError, OSError):
        return 0


@asynccontextmanager
async def subscribed(url: str, channels: Sequence[str]) -> AsyncIterator[ClientConnection]:
    """A client with so many subscriptions."""
    async with connect(url, compression=None, max_size=None) as socket:
        await socket.send('{"id":1,"connect":{}}')
        numbers = count(2)
        for some in batches(channels, IN_A_FRAME):
            commands = ({"id": next(numbers), "subscribe": {"channel": channel}} for channel in some)
            await socket.send("\n".join(map(json.dumps, commands)))
        answered = 0
        while answered <= len(channels):
            for line in str(await socket.recv()).splitlines():
                reply = json.loads(line)
                if "error" in reply:
                    raise Failed(f"a subscribe was refused: {line}")
                answered += "id" in reply
        yield socket


class Arrival:
    """A message that came; by the clock of this process."""

    __slots__ = ("arrived", "sent")

    def __init__(self, sent: float, arrived: float) -> None:
        self.sent, self.arrived = sent, arrived


class Live:
    """A channel with a subscriber, to which is published straight into the server that keeps it."""

    def __init__(self, layout: Layout, place: int, server: Server) -> None:
        self.arrivals = [Arrival(0.0, 0.0)]
        self.sent: list[float] = []
        self.back = 0.0
        """When the server could be reached again."""
        (self._channel,) = named(layout, place, "live", 1)
        self._verb = (SHARDED if layout.cluster else CLASSIC).publish
        self._server = server
        self._commands: Commands | None = Commands(server.port)

    @asynccontextmanager
    async def going_on(self, url: str) -> AsyncIterator[None]:
        async with subscribed(url, [self._channel]) as socket:
            tasks = [asyncio.create_task(self._hear(socket)), asyncio.create_task(self._publish())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if self._commands is not None:
                    self._commands.close()

    def p99(self, since: float, until: float) -> float:
        """Of what was sent in that time, in milliseconds."""
        took = sorted(each.arrived - each.sent for each in self.arrivals if since <= each.sent < until)
        if not took:
            raise Failed("nothing was live in the time that is asked about")
        return 1000 * took[int(0.99 * len(took))]

    def missed(self, since: float, until: float) -> int:
        came = {each.sent for each in self.arrivals}
        return sum(since <= each < until and each not in came for each in self.sent)

    async def _hear(self, socket: ClientConnection) -> None:
        async for text in socket:
            now = time.monotonic()
            for line in str(text).splitlines():
                if push := json.loads(line).get("push"):
                    self.arrivals.append(Arrival(push["pub"]["data"], now))

    async def _publish(self) -> None:
        while True:
            try:
                self._publish_one()
            except OSError:
                self._commands = None  # until it can be reached again
            await asyncio.sleep(PAUSE)

    def _publish_one(self) -> None:
        if self._commands is None:
            self._commands = Commands(self._server.port)
            self.back = time.monotonic()
        now = time.monotonic()
        message = WITHOUT_OFFSET + pack(Publication(data=Payload(json.dumps(now).encode())))
        words = (self._verb, KEYS.of(b"c", self._channel), message)
        self._commands.pending.append(pack_command(words))  # type: ignore[arg-type]  # typed as if it took one word alone
        self._commands.flush()
        self.sent.append(now)
