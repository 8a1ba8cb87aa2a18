"""Virtual nodes: applications with their gateways, side by side in one process, joined by what they share."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

import httpx
from starlette.routing import NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.config.settings import EngineSettings, Settings
from gateway.core.cluster import Notice, seal
from gateway.core.node import Node
from gateway.program.engine import ENVIRONMENT, Engine, Environment
from gateway.program.gateway import WEBSOCKET, Gateway
from gateway.testing.call import HOST, Call, Hearer, UpgradeRequest, all_idle
from gateway.testing.clock import Clock, breathe
from gateway.testing.exchange import Exchange
from gateway.testing.outages import Link, Linked, LinkedBlocks, LinkedBroker
from gateway.testing.outcomes import Late

ECHO = "testing echo"

PATH = "/connection/websocket"


class Cluster:
    """The nodes of a kit, and what joins them: one memory engine, or Redis."""

    def __init__(self, apps: list[ASGIApp], redis_url: str, deadline: float) -> None:
        self.clock = Clock(self.rest)
        self.deadline = deadline
        self._redis_url = redis_url
        self._exchanges: list[Exchange] = []
        self.nodes = [VirtualNode(app, self) for app in apps]

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()

    async def stop(self) -> None:
        for node in reversed(self.nodes):
            await node.stop()

    def engine(self, settings: Settings, link: Link, number: int) -> Engine:
        """The engine of the ``number``-th gateway of a node: it is joined to the same ones of the other nodes."""
        if self._redis_url:
            redis = settings.engine.redis.model_copy(update={"address": self._redis_url})
            settings = settings.model_copy(update={"engine": EngineSettings(type="redis", redis=redis)})
            engine = Engine(settings, self.clock)
        else:
            if number == len(self._exchanges):
                self._exchanges.append(Exchange(settings, self.clock))
            engine = self._exchanges[number].member()
        parts: Any = engine
        parts.broker = LinkedBroker(engine.broker, link)
        for part in ("presence", "leases", "occupancy", "limits"):
            setattr(parts, part, Linked(getattr(parts, part), link))
        parts.blocks = LinkedBlocks(engine.blocks, link)
        return engine

    async def wait_idle(self) -> None:
        """Return when all that clients have sent is done, and all that was published has been delivered."""
        busy = await all_idle([call for node in self.nodes for call in node.calls], self.deadline)
        if busy:
            raise Late(f"the application is still busy, after {self.deadline:g} s, with what {len(busy)} clients sent")
        await self.rest()
        await self._echo()

    async def rest(self) -> None:
        """Let everything come to rest that does not wait for time to pass."""
        await breathe()
        if self._redis_url:  # whose answers take their time
            await self._echo()
            await breathe()

    async def _echo(self) -> None:
        for node in self.nodes:
            await node.echo()


class VirtualNode:
    """One application with its gateways, run as by a server of its own."""

    def __init__(self, app: ASGIApp, cluster: Cluster) -> None:
        self.app = app
        self.gateways: list[Gateway] = []
        """Those that run in the application, in the order of their start."""
        self.link = Link()
        self.calls: list[Call] = []
        self._cluster = cluster
        self._engines = 0
        self._lifespan = Lifespan(app)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self._call_app), base_url=f"http://{HOST}")

    @property
    def gateway(self) -> Gateway:
        return self.gateways[0]

    async def start(self) -> None:
        """Enter the lifespan. Raises what it raises, and ``LookupError`` if no other gateway has started in it."""
        clock = self._cluster.clock
        context = copy_context()
        environment = Environment(clock, lambda: clock.wheel, self._engine, self._started)
        context.run(ENVIRONMENT.set, environment)
        await self._lifespan.start(context)
        if not self.gateways:
            await self._lifespan.stop()
            if any(each.gateways for each in self._cluster.nodes):
                raise LookupError(
                    'each node runs a gateway of its own: make it in the module that Kit("chat:app", nodes=2) reads, '
                    "which is read once for each node, and not in one that this imports; or pass a function that makes "
                    "gateway and application"
                )
            raise LookupError(
                "no gateway has started with the application: write FastAPI(lifespan=gateway.lifespan), "
                "or app.include_router(gateway.router)"
            )

    async def stop(self) -> None:
        for call in self.calls:
            call.close()
        for call in self.calls:
            await call.over(self._cluster.deadline)
        await self.http.aclose()
        await self._lifespan.stop()

    def call(self, handshake: UpgradeRequest, hearer: Hearer) -> Call:
        """Open a WebSocket."""
        self.calls = [each for each in self.calls if not each.returned]
        call = Call(self._call_app, handshake, hearer)
        self.calls.append(call)
        return call

    def path(self) -> str:
        """Where clients connect."""
        find: Any = getattr(self.app, "url_path_for", None)
        if find is not None:
            with suppress(NoMatchFound):
                return str(find(WEBSOCKET))
        return PATH

    async def echo(self) -> None:
        """Return when what the broker accepted before has been delivered here."""
        for gateway in self.gateways:
            if self.link.hears:
                await self._echo(gateway.node)
            gateway.node.hub.flush()

    async def _echo(self, node: Node) -> None:
        heard = asyncio.Event()
        node.cluster.listeners[ECHO] = lambda _argument: heard.set()
        await node.broker.publish_control(seal(ECHO, Notice(ECHO, "")), node.uid)
        try:
            async with asyncio.timeout(self._cluster.deadline):
                await heard.wait()
        except TimeoutError:
            raise Late("the broker does not deliver: a message from a node to itself has not come") from None

    def _engine(self, settings: Settings) -> Engine:
        self._engines += 1
        return self._cluster.engine(settings, self.link, self._engines - 1)

    def _started(self, gateway: object) -> None:
        assert isinstance(gateway, Gateway)
        self.gateways.append(gateway)

    async def _call_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", self._lifespan.state.copy())
        await self.app(scope, receive, send)


class Lifespan:
    """The application's start and stop, in a task of its own.

    Source: ASGI specification 3.0, "Lifespan".
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self, context: Context) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        work = self._app(scope, self._asked.get, self._answered.put)
        self._task = asyncio.get_running_loop().create_task(_await(work), context=context)
        await self._ask("lifespan.startup")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._ask("lifespan.shutdown")
            await self._task

    async def _ask(self, kind: str) -> None:
        """Raises what the application raises."""
        assert self._task is not None
        await self._asked.put({"type": kind})
        answer = asyncio.ensure_future(self._answered.get())
        await asyncio.wait({self._task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() or answer.result()["type"].endswith("failed"):
            answer.cancel()
            await self._task  # which raises the reason


async def _await(work: Awaitable[None]) -> None:
    await work
