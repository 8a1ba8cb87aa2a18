"""Channels and procedures of modules that have no gateway at hand."""

import gc
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any
from weakref import ref

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException
from pydantic import BaseModel

from gateway import ChannelRoute, ChannelRouter, Client, Gateway, Inclusion, Settings
from gateway.errors import SettingsError
from gateway.program.routes.signatures import SignatureError
from gateway.testing import Kit, Refused
from tests.program.routes.clients import ANYBODY, gateway_with, running

OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}


class Line(BaseModel):
    text: str


class Module:
    """A module of a program: a router with all that it may hold, and what was asked of it."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.router = ChannelRouter(**options)
        self.chat: ChannelRoute[Line] = self.router.channel("chat:{room}", message=Line, history_size=10, presence=True)

        @self.chat.on_subscribe
        async def join(room: str) -> None:
            self.calls.append(f"join {room}")

        @self.chat.on_publish
        async def say(room: str, line: Line) -> Line:
            return line

        @self.chat.on_unsubscribe
        async def leave(room: str) -> None:
            self.calls.append(f"leave {room}")

        @self.router.rpc("name")
        async def name(room: Annotated[str, Body()]) -> str:
            """The channel, of the place where it is asked."""
            return self.chat.name(room=room)

        @self.router.rpc
        async def tell(room: Annotated[str, Body()]) -> None:
            await self.chat.at(room=room).publish(Line(text="told"))


@pytest.fixture
def module() -> Module:
    return Module()


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


def app_of(gateway: Gateway) -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    return app


async def test_what_a_router_declares_is_there_where_it_is_included(gateway: Gateway, module: Module) -> None:
    gateway.include(module.router)
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("chat:a")
        await ann.publish("chat:a", {"text": "hi", "forged": 1})
        assert (await room.next()).data == {"text": "hi"}
        assert await ann.rpc("name", "a") == "chat:a"
        await ann.rpc("tell", "a")
        assert (await room.next()).data == {"text": "told"}
        await ann.unsubscribe("chat:a")
        await kit.wait_idle()
    assert module.calls == ["join a", "leave a"]


async def test_the_prefix_stands_before_channels_and_procedures(gateway: Gateway) -> None:
    module = Module(prefix="shop:")
    gateway.include(module.router, prefix="eu:")
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("eu:shop:chat:a")
        assert module.chat.name(room="a") == "eu:shop:chat:a"
        await ann.rpc("eu:shop:tell", "a")
        assert (await room.next()).data == {"text": "told"}
        for channel in ("chat:a", "shop:chat:a"):
            with pytest.raises(Refused, match="102"):
                await ann.subscribe(channel)


async def test_it_does_not_matter_which_is_first(gateway: Gateway) -> None:
    router, inner = ChannelRouter(prefix="a:"), ChannelRouter(prefix="b:")
    gateway.include(router)
    router.include(inner)
    chat = inner.channel("{room}", **OPEN)

    @chat.on_publish
    async def say(room: str, line: Line) -> Line:
        return line

    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("a:b:x")
        await ann.publish("a:b:x", {"text": "hi"})
        assert (await room.next()).data == {"text": "hi"}


async def test_a_router_may_be_included_twice(gateway: Gateway, module: Module) -> None:
    places = {prefix: gateway.include(module.router, prefix=prefix) for prefix in ("x:", "y:")}
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        rooms = {prefix: await ann.subscribe(f"{prefix}chat:a") for prefix in places}
        for prefix, place in places.items():
            assert place[module.chat].name(room="a") == f"{prefix}chat:a"
            await place[module.chat].at(room="a").publish(Line(text=prefix))
            assert (await rooms[prefix].next()).data == {"text": prefix}
            # within a handler, it is the one whose handler it is
            assert await ann.rpc(f"{prefix}name", "a") == f"{prefix}chat:a"
            await ann.rpc(f"{prefix}tell", "a")
            assert (await rooms[prefix].next()).data == {"text": "told"}
        with pytest.raises(RuntimeError, match=r"included as x:chat:\{room\} and y:chat:\{room\}: keep what gateway"):
            module.chat.name(room="a")


def test_a_channel_that_is_in_no_gateway_says_so(module: Module) -> None:
    for use in (module.chat.name, module.chat.at):
        with pytest.raises(
            RuntimeError, match=r'router.channel\("chat:\{room\}"\) at .*test_router.py:\d+ is in no gateway yet'
        ):
            use(room="a")


def test_a_channel_is_asked_of_what_has_it(gateway: Gateway, module: Module) -> None:
    place = gateway.include(module.router)
    for other in (Module().chat, gateway.channel("mine")):
        with pytest.raises(LookupError, match="is included here 0 times"):
            _ = place[other]


async def test_one_router_serves_several_nodes(module: Module) -> None:
    """As when each node of a test makes its application anew, of modules that are read once."""

    def create() -> FastAPI:
        gateway = Gateway(Settings(client=ANYBODY))
        gateway.include(module.router)
        app = app_of(gateway)

        @app.post("/tell/{room}")
        async def tell(room: str) -> None:
            await module.chat.at(room=room).publish(Line(text="posted"))

        return app

    create()  # a gateway that never runs
    async with Kit(create, nodes=2) as kit:
        ann, bob = await kit.connect(), await kit.connect(node=1)
        rooms = [await each.subscribe("chat:a") for each in (ann, bob)]
        await bob.rpc("tell", "a")
        await kit.nodes[1].http.post("/tell/a")
        for room in rooms:
            assert [(await room.next()).data["text"] for _ in range(2)] == ["told", "posted"]


async def test_parameters_may_stand_in_a_prefix(gateway: Gateway) -> None:
    router = ChannelRouter(prefix="{tenant}:")
    chat = router.channel("chat:{room}", **OPEN)

    @chat.on_publish
    async def say(tenant: str, room: str, line: Line) -> Line:
        return Line(text=f"{tenant}, {room}: {line.text}")

    gateway.include(router)
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("acme:chat:a")
        await ann.publish("acme:chat:a", {"text": "hi"})
        assert (await room.next()).data == {"text": "acme, a: hi"}
    assert chat.name(tenant="acme", room="b") == "acme:chat:b"


async def test_events_of_a_router(gateway: Gateway) -> None:
    router = ChannelRouter()
    gateway.include(router, prefix="a:")
    chat = router.channel("chat", history_size=5, **OPEN)
    told = chat.event("told", Line)

    @chat.event("line")
    async def line(data: Line) -> None:
        await chat.at().publish_event(told, Line(text=data.text.upper()))

    gateway.include(router, prefix="b:")
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        room = await ann.subscribe("b:chat")
        await ann.publish("b:chat", {"event": "line", "data": {"text": "hi"}})
        assert (await room.next()).data == {"event": "told", "data": {"text": "HI"}}
        assert (await room.next()).data == {"event": "line", "data": {"text": "hi"}}
        kept, _ = await kit.gateway.history("b:chat")
        assert [(each.event, each.data) for each in kept] == [("told", Line(text="HI")), ("line", Line(text="hi"))]


async def test_live_sources_of_a_router(gateway: Gateway) -> None:
    router = ChannelRouter()
    for prefix in ("a:", "b:"):
        gateway.include(router, prefix=prefix)
    ticks = router.channel("ticks", **OPEN)

    @ticks.live
    async def tick() -> AsyncIterator[str]:
        yield ticks.name()

    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        assert (await (await ann.subscribe("b:ticks")).next()).data == "b:ticks"


# — dependencies —


class Asked:
    """Dependencies that write down that they were asked, and by whom."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse = False

    def __call__(self, name: str) -> Any:
        async def ask(client: Client) -> None:
            self.calls.append(name)
            if self.refuse:
                raise HTTPException(403, "not you")

        return Depends(ask)


async def test_dependencies_run_from_the_outermost_before_all_that_is_asked() -> None:
    asked = Asked()
    gateway, inner = gateway_with(), Module(dependencies=[asked("inner")])
    outer = ChannelRouter(dependencies=[asked("outer")])
    outer.include(inner.router, dependencies=[asked("between")])
    inner.chat.on_presence(_allow)
    gateway.include(outer, dependencies=[asked("gateway")])
    order = ["gateway", "outer", "between", "inner"]
    async with Kit(app_of(gateway)) as kit:
        ann = await kit.connect()
        for act in (
            lambda: ann.subscribe("chat:a"),
            lambda: ann.publish("chat:a", {"text": "hi"}),
            lambda: ann.presence("chat:a"),
            lambda: ann.rpc("tell", "a"),
        ):
            asked.calls.clear()
            await act()
            assert asked.calls == order
        asked.refuse = True
        for act in (lambda: ann.publish("chat:a", {"text": "hi"}), lambda: ann.rpc("tell", "a")):
            with pytest.raises(Refused, match="103 not you"):
                await act()
        asked.calls.clear()
        await ann.unsubscribe("chat:a")
        await kit.wait_idle()
        assert asked.calls == [], "nobody is refused to leave"
        with pytest.raises(Refused, match="103 not you"):
            await ann.subscribe("chat:a")
    assert inner.calls == ["join a", "leave a"]


async def _allow() -> None: ...


READERS: dict[str, Any] = {"allow_presence_for_subscriber": True, "allow_history_for_subscriber": True}


async def test_dependencies_hold_where_the_options_decide_alone() -> None:
    asked = Asked()
    gateway, router = gateway_with(), ChannelRouter(dependencies=[asked("asked")])
    anonymous = {f"allow_{what}_for_anonymous": True for what in ("publish", "presence", "history")}
    options: dict[str, Any] = {**OPEN, **READERS, **anonymous, "allow_publish_for_subscriber": True}
    router.channel("open", history_size=5, presence=True, **options)
    router.channel("closed", history_size=5, presence=True)
    gateway.include(router)
    async with Kit(app_of(gateway)) as kit:
        ann, bob = await kit.connect(), await kit.connect()

        async def acts(channel: str) -> list[Callable[[], Any]]:
            return [
                lambda: ann.subscribe(channel),
                lambda: ann.publish(channel, 1),
                lambda: ann.presence(channel),
                lambda: ann.history(channel),
            ]

        for act in await acts("open"):
            asked.calls.clear()
            await act()
            assert asked.calls == ["asked"]
        for act in await acts("closed"):
            with pytest.raises(Refused, match="103 permission denied"):
                await act()
        for act in (lambda: bob.publish("open", 1), lambda: bob.presence("open"), lambda: bob.history("open")):
            with pytest.raises(Refused, match="103 permission denied"):
                await act()
        asked.refuse = True
        with pytest.raises(Refused, match="103 not you"):
            await bob.subscribe("open")


async def test_a_procedure_has_dependencies_of_its_own(gateway: Gateway) -> None:
    asked = Asked()
    router = ChannelRouter(prefix="a:", dependencies=[asked("router")])

    @router.rpc(dependencies=[asked("procedure")])
    async def guarded() -> str:
        return "done"

    @gateway.rpc("alone", dependencies=[asked("alone")])
    async def other() -> None: ...

    gateway.include(router)
    async with Kit(app_of(gateway)) as kit:
        bob = await kit.connect()
        assert await bob.rpc("a:guarded") == "done"
        assert asked.calls == ["router", "procedure"]
        await bob.rpc("alone")
        assert asked.calls[2:] == ["alone"]
        asked.refuse = True
        with pytest.raises(Refused, match="103 not you"):
            await bob.rpc("alone")


async def test_so_has_a_channel() -> None:
    asked = Asked()
    gateway = gateway_with()
    router = ChannelRouter(dependencies=[asked("router")])
    router.channel("a", dependencies=[asked("channel")], **OPEN)
    gateway.channel("b", dependencies=[asked("channel")], **OPEN)
    gateway.include(router)
    async with Kit(app_of(gateway)) as kit:
        bob = await kit.connect()
        await bob.subscribe("a")
        await bob.subscribe("b")
        assert asked.calls == ["router", "channel", "channel"]
        asked.refuse = True
        ann = await kit.connect()
        with pytest.raises(Refused, match="103 not you"):
            await ann.subscribe("b")


@pytest.mark.parametrize("dependencies", [[_allow], Depends(_allow)])
def test_dependencies_are_written_as_such(gateway: Gateway, module: Module, dependencies: Any) -> None:
    declaring: list[Callable[..., Any]] = [
        partial(gateway.include, module.router),
        partial(module.router.include, ChannelRouter()),
        partial(gateway.channel, "a"),
        ChannelRouter,
        gateway.rpc,
    ]
    for declare in declaring:
        with pytest.raises(TypeError, match=r"write dependencies=\[Depends\(current_user\)\]"):
            declare(dependencies=dependencies)


# — what is wrong —


def test_a_handler_that_could_not_be_called_is_refused_where_it_is_included(gateway: Gateway) -> None:
    router = ChannelRouter()
    chat = router.channel("chat:{room}")

    @chat.on_subscribe
    async def join(romm: str) -> None: ...

    with pytest.raises(SignatureError, match=r'on_subscribe of "a:chat:\{room\}": .*join\(romm: str\)'):
        gateway.include(router, prefix="a:")


def test_included_once_more_it_would_be_there_twice(gateway: Gateway, module: Module) -> None:
    gateway.include(module.router)
    with pytest.raises(SettingsError, match=r"would be there twice: .* needs another prefix"):
        gateway.include(module.router)


def test_names_of_procedures_have_no_parameters(gateway: Gateway, module: Module) -> None:
    with pytest.raises(SettingsError, match=r'rpc\("name"\) would be called "\{tenant\}:name"'):
        gateway.include(module.router, prefix="{tenant}:")


@pytest.mark.parametrize("given", [APIRouter(), pytest])
def test_only_routers_of_channels_are_included(gateway: Gateway, given: Any) -> None:
    for including in (gateway, ChannelRouter()):
        with pytest.raises(TypeError, match=r"it takes a ChannelRouter, .* include\(chat.router\)"):
            including.include(given)


def test_a_router_does_not_include_itself() -> None:
    first, second = ChannelRouter(), ChannelRouter()
    first.include(second)
    for router in (first, second):
        with pytest.raises(ValueError, match="a router cannot include itself"):
            router.include(first)


async def test_nothing_is_included_in_a_gateway_that_has_started(gateway: Gateway, module: Module) -> None:
    gateway.include(module.router)
    async with running(gateway):
        with pytest.raises(RuntimeError, match="the gateway has started"):
            gateway.include(ChannelRouter())
        with pytest.raises(RuntimeError, match="the gateway has started"):
            module.router.channel("more")
        with pytest.raises(RuntimeError, match="the gateway has started"):
            module.chat.on_history(_allow)


def test_what_is_wrong_with_a_pattern_is_said_where_it_is_declared() -> None:
    router = ChannelRouter()
    with pytest.raises(ValueError, match="braces do not match"):
        router.channel("chat:{room")
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'histroy_size'"):
        router.channel("chat", histroy_size=1)  # type: ignore[call-overload]


def test_a_gateway_goes_though_its_routers_stay(module: Module) -> None:
    gateway = gateway_with()
    place: Inclusion | None = gateway.include(module.router)
    gone = ref(gateway)
    del gateway, place
    gc.collect()
    assert gone() is None
    assert module.router.inclusions() == []
