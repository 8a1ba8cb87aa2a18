"""A gateway at the end of a slow line, what its program hears, a client under test, and an observer beside it."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway import Client, Gateway, Settings
from gateway.auth.tokens import sign_connection
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.program.engine import ENVIRONMENT, Environment
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from tests.session.rig import HISTORY, OPEN, SECRET, WRITABLE, Clock, Recorder
from tests.sweep.slow import Line, SlowEngine, turns

ROOM, OTHER = "room:1", "room:2"
ROOMS = (ROOM, OTHER)
WIRE = Wire(CentrifugeJson(), bytes)
CALM = 3
"""Turns without any work after which there is none."""
NEVER = 3000
"""Turns that nothing here takes."""
THINKS = 2
"""Turns that a handler of the program takes."""

ROOM_OPTIONS: dict[str, Any] = {**HISTORY, "presence": True, "join_leave": True, "force_push_join_leave": True}
ROOM_OPTIONS |= {"force_recovery": True}


class Failures(logging.Handler):
    """What is logged as an error, and what the event loop complains of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(f"{record.getMessage()}: {error!r}")

    def complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.texts.append(f"{context['message']}: {context.get('exception')!r}")


class Page(Recorder):
    """A client that sends its frames one behind the other, as transports bring them; its connection ends once."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._acceptor = gateway.running.acceptor
        self._hub = gateway.node.hub
        scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "client": None}
        self.session = self._acceptor.open(WIRE, self, scope)
        self.client: str = self.session.client
        self.messages: list[dict[str, Any]] = []
        """All that it was told, in order; pushes without their envelope."""
        self._waiting: deque[bytes] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._ended = False
        self._last_id = 0

    @property
    def admitted(self) -> bool:
        """Whether commands of the cluster reach it."""
        return self.client in self._hub.connections

    def say(self, kind: str, **body: Any) -> None:
        """Send one command; nothing is sent into a connection that has ended."""
        if not self.gone:
            self._last_id += 1
            self._send(json.dumps({"id": self._last_id, kind: body}).encode())

    def _send(self, frame: bytes) -> None:
        self._waiting.append(frame)
        if self._pump is None:
            self._pump = asyncio.create_task(self._carry())

    def close(self, reason: Disconnect) -> None:
        first = not self.reasons
        super().close(reason)
        if first:
            asyncio.get_running_loop().call_soon(self.end)

    def end(self) -> None:
        """The connection is lost, by whoever closed it."""
        if not self._ended:
            self._ended = True
            self._waiting.clear()
            self._acceptor.close(self.session)

    @property
    def asked(self) -> int:
        """How many commands it has sent."""
        return self._last_id

    @property
    def gone(self) -> bool:
        return self._ended or bool(self.reasons)

    def read(self) -> list[dict[str, Any]]:
        self._hub.flush()
        frames, self.frames = self.frames, []
        lines = [json.loads(line) for frame in frames for line in frame.split(b"\n")]
        self.messages += [line.get("push", line) for line in lines if line]
        if {} in lines:
            self._send(b"{}")
        return self.messages

    async def _carry(self) -> None:
        while self._waiting:
            await self.session.receive(self._waiting.popleft())
        self._pump = None


class World:
    """One gateway with an observer in both rooms, for many clients of alice's, one after the other."""

    def __init__(self, *, observed: bool, program: bool) -> None:
        self._observed = observed
        self.observer: Page | None = None
        self.left: list[str] = []
        """What was still there when everybody had gone."""
        self.own_timers = self._nodes_timers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.line = Line()
        self.clock = Clock()
        self.wheel = Wheel(self.clock)
        self.failures = Failures()
        self.told: list[tuple[str, str, str]] = []
        """What the program was told: event, client, channel. A handler that admits is told when it has answered."""
        settings = Settings(
            client={"token": {"hmac_secret_key": SECRET}},
            channel={"namespaces": [] if program else [{"name": "room", **ROOM_OPTIONS, **OPEN, **WRITABLE}]},
        )
        self.gateway = Gateway(settings)
        if program:
            self._program(self.gateway)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        loop = asyncio.get_running_loop()
        environment = Environment(
            clock=self.clock, wheel=lambda: self.wheel, engine=lambda settings: self._engine(settings)
        )
        token = ENVIRONMENT.set(environment)
        logging.getLogger("gateway").addHandler(self.failures)
        loop.set_exception_handler(self.failures.complain)
        try:
            async with self.gateway.lifespan():
                loop.set_task_factory(self._task)
                self._nodes_timers = self.timers
                if self._observed:
                    self.observer = self._observing()
                    await self.quiet()
                self.gateway.node.refusals._after = None  # one timer for each kind of them, and nobody's
                self.own_timers = self.timers
                yield self
                if not self.gateway.node.draining:
                    await self._check_empty()
            await self._rest()
        finally:
            loop.set_task_factory(None)
            loop.set_exception_handler(None)
            logging.getLogger("gateway").removeHandler(self.failures)
            ENVIRONMENT.reset(token)

    def _engine(self, settings: Settings) -> SlowEngine:
        self.engine = SlowEngine(settings, self.line)
        return self.engine

    # — clients —

    def page(self) -> Page:
        return Page(self.gateway)

    def token(self, user: str = "alice") -> str:
        return sign_connection(SECRET, user, 0, self.clock())

    def _observing(self) -> Page:
        observer = self.page()
        observer.say("connect", token=self.token("observer"))
        for room in ROOMS:
            observer.say("subscribe", channel=room)
        return observer

    # — what there is —

    def subscribers(self, room: str) -> int:
        """Subscriptions of others than the observer."""
        return self.gateway.node.hub.subscribers(room) - (self.observer is not None)

    def present(self, room: str) -> set[str]:
        """Client ids in presence, when it was quiet last."""
        return self._present[room]

    def left_open(self) -> list[str]:
        """What the node still hears or keeps for somebody, the observer apart."""
        if self.observer is not None:
            return []
        hub, feeds = self.gateway.node.hub, self.gateway.node.feeds
        found: dict[str, Iterable[str]] = {"hub": hub.channels, "feeds": feeds._feeds, "broker": self.engine.heard}
        return [f"left in {where}: {set(what)}" for where, what in found.items() if what]

    async def _check_empty(self) -> None:
        if self.observer is not None:
            self.observer.end()
            self.observer = None
            await self.quiet()
        await self.pass_time(2)
        hub = self.gateway.node.hub
        self.left = self.left_open()
        if any(self._present.values()) or hub.subscriptions or hub.connections or hub.users:
            self.left.append(f"{hub.subscriptions} subscriptions, of {set(hub.users)}")
        if self.timers != self._nodes_timers:
            self.left.append(f"{self.timers} timers, the node itself has {self._nodes_timers}")

    # — time —

    @property
    def timers(self) -> int:
        """Deadlines on the wheel."""
        return sum(map(len, self.wheel._slots.values()))

    @property
    def busy(self) -> bool:
        """Whether there is a call under way, or any task beside those that a node has for ever."""
        return bool(self.line.under_way or self._tasks)

    async def quiet(self) -> None:
        """Wait until all work has come to its end."""
        await self._rest()
        self.gateway.node.hub.flush()
        self._present = {room: await self.engine.members(room) for room in ROOMS}

    async def _rest(self) -> None:
        calm = 0
        for _ in range(NEVER):
            calm = 0 if self.busy else calm + 1
            if calm == CALM:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it never ends: {self._tasks}")

    async def ticks(self, count: int) -> bool:
        """Turn the event loop so many times; answers whether there was work all the while."""
        for _ in range(count):
            if not self.busy:
                return False
            await asyncio.sleep(0)
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.get_running_loop().create_task(work)

    def publish(self, data: int | str) -> None:
        """To both rooms."""
        for room in ROOMS:
            self.spawn(self._publish(room, data))

    async def _publish(self, room: str, data: int | str) -> None:
        with suppress(BrokerUnavailable):
            await self.gateway.publish(room, data)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        """Makes every task of the loop, and knows of it until it is done."""
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.tick()
            self.wheel.turn()
        if self.observer is not None:
            self.observer.read()  # and answer, if there was a ping
        await self.quiet()

    # — the program —

    def _program(self, gateway: Gateway) -> None:
        room = gateway.channel("room:{number}", **ROOM_OPTIONS)

        @gateway.on_connect
        async def connect(client: Client) -> None:
            await turns(THINKS)
            self.told.append(("connect", client.id, ""))

        @gateway.on_disconnect
        async def disconnect(client: Client) -> None:
            await turns(THINKS)
            self.told.append(("disconnect", client.id, ""))

        @room.on_subscribe
        async def subscribe(client: Client, number: str) -> None:
            await turns(THINKS)
            self.told.append(("subscribe", client.id, f"room:{number}"))

        @room.on_unsubscribe
        async def unsubscribe(client: Client, number: str) -> None:
            await turns(THINKS)
            self.told.append(("unsubscribe", client.id, f"room:{number}"))
