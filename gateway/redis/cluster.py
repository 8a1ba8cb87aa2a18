"""A Redis Cluster as one shard: commands and messages go to whichever server owns their slot.

It needs Redis 7.0, for sharded pub/sub. Each server has two connections, whatever the number of channels.
"""

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, SettingsError
from gateway.health import ServerHealth
from gateway.redis.connection import ignored
from gateway.redis.endpoint import Endpoint
from gateway.redis.homes import Homes
from gateway.redis.keys import SLOTS, TAGS, Keys, slot
from gateway.redis.pubsub import SHARDED
from gateway.redis.resp import REDIRECTIONS, Argument, CommandRefused, Handler
from gateway.redis.script import Script
from gateway.redis.server import Server, call_all
from gateway.redis.topology import Address, Topology, read_redirection
from gateway.redis.turns import Place, Turns
from gateway.redis.views import Views

logger = logging.getLogger(__name__)

LOOK = 30.0
"""Seconds between looks at who owns what; of most moves servers tell before."""

LOOK_SOON = 0.3
"""The same while a server is away, a slot is nobody's, or a subscription at no server."""

FOLLOWED = 3.0
"""Seconds for which a command is led from server to server."""

_Result = TypeVar("_Result")
_Ask = Callable[[Server], asyncio.Future[_Result]]
_Asks = tuple[_Ask[_Result], _Ask[_Result]]
"""What the owner of a slot is asked, and what a server is to which that leads."""


class Cluster:
    """Keeps to ``Shard`` over its primaries, each a ``Server``."""

    spans = False

    def __init__(self, settings: RedisSettings, seeds: Sequence[Endpoint]) -> None:
        """``seeds`` are some of its servers; user, password and TLS of the first hold for all."""
        self.keys = Keys(settings.prefix)
        self.on_reconnect: list[Callable[[], None]] = []
        self._settings = settings
        self._seeds = seeds
        self._scripts: list[Script] = []
        self._servers: dict[Address, Server] = {}
        self._starts: dict[Server, asyncio.Task[None]] = {}
        self._topology = Topology(0, [])
        self._owners: list[Server | None] = [None] * SLOTS
        self._turns = Turns()
        self._whole = False
        """Whether somebody owns each slot."""
        self._gaps = 0
        self._counts: Counter[str] = Counter()
        self._views = Views(settings, seeds, self._counts)
        self._look = asyncio.Event()
        self._homes = Homes(lambda name: self._owners[slot(name)], self._follow, self._look)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """As ever. Raises ``SettingsError`` if what answers is no cluster, or too old."""
        await self._learn()
        if self._views.unfit and not self._servers:
            raise SettingsError(self._views.unfit)
        self._spawn(self._watch())

    async def close(self) -> None:
        self._whole = False
        while self._tasks or self._servers:  # an answer that comes meanwhile may lead to one more
            servers = [self._servers.pop(address) for address in list(self._servers)]
            tasks = [*self._tasks, *(self._starts.pop(server) for server in servers)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(server.close() for server in servers))
            self._turns.close()

    @property
    def connected(self) -> bool:
        return self._whole and all(server.connected for server in self._servers.values())

    @property
    def deaf(self) -> bool:
        return any(server.deaf for server in self._servers.values())

    @property
    def lag(self) -> float:
        return max((server.lag for server in self._servers.values()), default=0.0)

    @property
    def reconnects(self) -> int:
        return self._gaps + sum(server.reconnects for server in self._servers.values())

    @property
    def refused(self) -> Mapping[str, int]:
        return self._counts

    def health(self) -> list[ServerHealth]:
        if found := [health for server in self._servers.values() for health in server.health()]:
            return found
        seeds = ",".join(map(str, self._seeds))
        health = ServerHealth(seeds, connected=False, problem=self._views.problem)
        for refusals in self._views.asked.values():
            if not health.refusal:
                health = refusals.shown_in(health)
        return [health]

    async def identity(self) -> bytes:
        return b" ".join(sorted(await asyncio.gather(*(server.identity() for server in self._servers.values()))))

    # — keys —

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        return self._follow(command[1], lambda server: server.execute(*command))

    def load(self, *scripts: Script) -> None:
        self._scripts += [script.sharded for script in scripts]

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> asyncio.Future[Any]:
        return self._follow(
            keys[0],
            lambda server: server.run(script.sharded, keys, args),
            # by its text: what is asked for at another server in passing must be one command
            lambda server: server.run_text(script.sharded, keys, args),
        )

    # — pub/sub —

    def publish(self, name: Argument, message: Argument) -> asyncio.Future[int]:
        return self.execute(SHARDED.publish, name, message)

    async def hearers(self, names: Sequence[bytes]) -> list[int]:
        places: defaultdict[Server | None, list[bytes]] = defaultdict(list)
        for name in names:
            places[self._owners[slot(name)]].append(name)
        counts: dict[bytes, int] = {}
        for server, those in places.items():
            if server is None:
                raise BrokerUnavailable
            counts |= zip(those, await server.hearers(those), strict=True)
        return [counts[name] for name in names]

    async def echo(self) -> None:
        await asyncio.gather(*(server.echo() for server in self._servers.values()))

    def subscribe(self, name: bytes, handler: Handler) -> asyncio.Future[None]:
        return self._homes.subscribe(name, handler)

    async def listen(self, name: bytes, handler: Handler) -> None:
        await self._homes.listen(name, handler)

    def unsubscribe(self, name: bytes) -> asyncio.Future[None]:
        return self._homes.unsubscribe(name)

    def names(self) -> list[bytes]:
        return list(self._homes.handlers)

    async def forget(self, names: Iterable[bytes]) -> None:
        await asyncio.gather(*[self.unsubscribe(name) for name in names])

    # — the way to a server —

    def _follow(
        self, key: Argument, ask: _Ask[_Result], ask_elsewhere: _Ask[_Result] | None = None
    ) -> asyncio.Future[_Result]:
        """Ask whoever owns the slot, at once unless others are before us, and go on where that leads."""
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        name = _name(key)
        self._ask_owner(answer, name, (ask, ask_elsewhere or ask), (slot(name), name))
        return answer

    def _ask_owner(
        self, answer: asyncio.Future[_Result], name: bytes, asks: _Asks[_Result], places: Sequence[Place]
    ) -> None:
        if places:
            turn, rest = self._turns.take(places[0]), places[1:]
            if turn is None:
                self._ask_owner(answer, name, asks, rest)
            else:
                turn.add_done_callback(lambda _: self._ask_owner(answer, name, asks, rest))
            return
        server = self._owners[slot(name)]
        if answer.done():
            return
        if server is None:
            self._look.set()
            answer.set_exception(BrokerUnavailable(stored="no"))
        else:
            asks[0](server).add_done_callback(partial(self._pass_on, answer, server, name, asks[1]))

    def _pass_on(
        self,
        answer: asyncio.Future[_Result],
        server: Server,
        name: bytes,
        ask: _Ask[_Result],
        first: asyncio.Future[_Result],
    ) -> None:
        error = None if first.cancelled() else first.exception()
        if isinstance(error, CommandRefused) and error.redis_code in REDIRECTIONS:
            self._spawn(self._redirect(error, server, name, ask)).add_done_callback(partial(_resolve, answer))
            return
        if error is not None and not isinstance(error, CommandRefused):
            self._look.set()
        if first.cancelled():
            answer.cancel()
        elif not answer.done():
            if error is None:
                answer.set_result(first.result())
            else:
                answer.set_exception(error)

    async def _redirect(self, refused: CommandRefused, server: Server, name: bytes, ask: _Ask[_Result]) -> _Result:
        """Ask where a server has said that the slot is, as long as it is somewhere else each time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            led = read_redirection(refused, (server.endpoint.host, server.endpoint.port))
            if led is None or self._turns.pausing(name):  # some keys are here and some there
                if not self._turns.held(name):
                    self._spawn(self._turns.hold([name], partial(server.execute, "PING")))
                await self._turns.take_again(name)
                led = None
            else:
                server = await self._server(led.address)
                if not led.asking:
                    self._hand_over({slot(name): server})
                    self._look.set()
            try:
                if led is not None and led.asking:
                    server.execute("ASKING").add_done_callback(ignored)
                return await ask(server)
            except CommandRefused as again:
                if again.redis_code not in REDIRECTIONS or loop.time() > began + FOLLOWED:
                    raise
                refused = again

    def _hand_over(self, owners: Mapping[int, Server | None]) -> None:
        """Have slots be others', once what their former owners have been sent is answered: so order is kept."""
        places: defaultdict[Server, list[int]] = defaultdict(list)
        for place, owner in owners.items():
            former, self._owners[place] = self._owners[place], owner
            if former is not None and former is not owner:
                places[former].append(place)
        for former, those in places.items():
            self._spawn(self._turns.hold(those, partial(former.execute, "PING")))

    async def _server(self, address: Address) -> Server:
        """The server at an address, connected if it can be reached."""
        server = self._servers.get(address)
        if server is None:
            endpoint = replace(self._seeds[0], host=address[0], port=address[1])
            server = self._servers[address] = Server(self._settings, endpoint, SHARDED, self._counts)
            server.load(*self._scripts)
            server.on_reconnect.append(self._tell_of_gap)
            server.on_moved = partial(self._homes.take_from, server)
            self._starts[server] = asyncio.create_task(server.start())
        await asyncio.shield(self._starts[server])
        return server

    # — who owns what —

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + LOOK
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SOON):
                    await self._look.wait()
            if self.connected and self._homes.complete and loop.time() < due and not self._look.is_set():
                continue
            await asyncio.sleep(LOOK_SOON * random.random())  # noqa: S311  many nodes look at once
            self._look.clear()
            try:
                await self._learn()
            except Exception:  # a supervisor that dies leaves the node deaf for ever
                logger.exception("the servers of the cluster could not be learnt")
            due = loop.time() + LOOK

    async def _learn(self) -> None:
        """Ask all servers, or the seeds if none answers, and believe the latest view."""
        views = await self._views.gather(
            self._views.view(server.execute, address) for address, server in self._servers.items() if server.connected
        )
        if not views:
            known = [replace(self._seeds[0], host=host, port=port) for host, port in self._servers]
            views = await self._views.gather(self._views.ask(endpoint) for endpoint in (*self._seeds, *known))
        if views:
            await self._adopt(max(views, key=lambda view: (view.epoch, SLOTS - view.owners.count(None))))

    async def _adopt(self, topology: Topology) -> None:
        """Have owners be as they are, and subscriptions where their slots are."""
        changed = topology != self._topology
        began = bool(self._topology.owners)
        if changed:
            await asyncio.gather(*(self._server(address) for address in topology.primaries))
            self._topology, self._whole = topology, None not in topology.owners
        # even if nothing has changed: a redirection may have led to where a slot was for a moment only
        owners = [owner and self._servers[owner] for owner in topology.owners]
        if owners != self._owners:
            self._hand_over(dict(enumerate(owners)))
        await asyncio.gather(*(self._speak_in_its_own(self._servers[owner]) for owner in topology.primaries))
        if await self._homes.bring_all() or (began and changed):
            self._tell_of_gap()
        idle = self._servers.keys() - set(topology.primaries)
        await self._leave([address for address in idle if changed or not self._servers[address].connected])

    async def _speak_in_its_own(self, server: Server) -> None:
        """Have a server's messages to itself lie in one of its slots."""
        if tag := next((tag for tag in TAGS if self._owners[slot(tag)] is server), None):
            await server.speak_in(tag)

    async def _leave(self, addresses: Iterable[Address]) -> None:
        """Have done with servers that own nothing any more."""
        for address in addresses:
            server = self._servers.pop(address)
            self._gaps += server.reconnects
            await self._starts.pop(server)
            await server.close()

    def _tell_of_gap(self) -> None:
        self._gaps += 1
        call_all(self.on_reconnect)

    def _spawn(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _name(key: Argument) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


def _resolve(answer: asyncio.Future[_Result], work: asyncio.Task[_Result]) -> None:
    error = BrokerUnavailable() if work.cancelled() else work.exception()
    if answer.done():
        return
    if error is None:
        answer.set_result(work.result())
    else:
        answer.set_exception(error)
