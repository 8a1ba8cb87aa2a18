"""Where keys are kept, and what is published there: one Redis, be it one server or a cluster of them.

One ``Shard`` serves broker and presence together; whoever composes the application does ::

    shard = Server(settings.engine.redis)
    broker, presence = RedisBroker(shard), RedisPresence(shard)
    await shard.start()
    await broker.start(node, events)
    await presence.start(node, swept)
    ...
    await presence.close()
    await broker.close()
    await shard.close()
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from gateway.health import ServerHealth
from gateway.redis.keys import Keys
from gateway.redis.resp import Argument, Handler
from gateway.redis.script import Script


class ServerNames:
    """The servers of a shard as a log names them, looked up when a line is written."""

    def __init__(self, shard: "Shard") -> None:
        self._shard = shard

    def __str__(self) -> str:
        return ", ".join(each.server for each in self._shard.health())


class Shard(Protocol):
    """What stores ask of Redis. While it is away commands fail at once with ``BrokerUnavailable``."""

    keys: Keys
    spans: bool
    """Whether a script may have keys of several partitions."""
    on_reconnect: list[Callable[[], None]]
    """Called when a connection is back: messages may have been missed, and the server may be another one."""

    async def start(self) -> None:
        """Begin to connect. Returns after the first attempt, whether it worked or not.

        Raises ``SettingsError`` if what answers is of another kind than its address says.
        """

    async def close(self) -> None: ...

    @property
    def connected(self) -> bool: ...

    @property
    def deaf(self) -> bool:
        """Whether nothing arrives, though it is published."""

    @property
    def lag(self) -> float:
        """The last measured time from publish to arrival, in seconds."""

    @property
    def reconnects(self) -> int: ...

    @property
    def refused(self) -> Mapping[str, int]:
        """How often Redis has refused something, by kind."""

    def health(self) -> list[ServerHealth]:
        """How each server is; of a cluster that cannot be reached one stands for all."""

    # — keys —

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command whose second word is a key. The answer may be ``BrokerUnavailable``."""

    def load(self, *scripts: Script) -> None:
        """Have every server that is connected to know these. To be called before ``start``."""

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        """Run a script on keys of one partition, by its digest if the server knows it.

        Where the shard ``spans`` partitions, they may be of any.
        """

    async def identity(self) -> bytes:
        """Which server this is, and which history of data it holds; empty where that is not told."""

    # — pub/sub —

    def publish(self, name: Argument, message: Argument) -> asyncio.Future[int]:
        """Publish by itself; answers how many hear it."""

    async def hearers(self, names: Sequence[bytes]) -> list[int]:
        """How many are subscribed to each."""

    async def echo(self) -> None:
        """Return when what has been published here before has arrived, where subscribed.

        Never fails, and does not wait for long if nothing arrives.
        """

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        """Have ``handler`` called with what arrives on ``name``; done when Redis has confirmed.

        Fails with ``BrokerUnavailable``, and then nothing is left of it. Who cancels it unsubscribes to be sure.
        """

    async def listen(self, name: bytes, handler: Handler) -> None:
        """Like ``subscribe``, but holds even if the server is away now and comes later."""

    def unsubscribe(self, name: bytes) -> asyncio.Future[None]:
        """Stop the handler, at once; done when Redis has confirmed or is away. Never fails."""

    def names(self) -> list[bytes]:
        """What is subscribed, or about to be, but for its own."""

    async def forget(self, names: Iterable[bytes]) -> None:
        """Stop many handlers, at once."""
