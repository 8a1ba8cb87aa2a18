"""Channels and procedures that a module declares without the gateway at hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload
from weakref import ref

from fastapi.params import Depends

from gateway.errors import SettingsError
from gateway.program.routes.base_router import BaseRouter
from gateway.program.routes.channel import CURRENT, ChannelRoute
from gateway.program.routes.client import EventClient
from gateway.program.routes.declaration import Declaration
from gateway.program.routes.handle import ChannelHandle, Operating
from gateway.program.routes.named_events import ChannelEvent, Named
from gateway.program.routes.program import Program
from gateway.program.routes.signatures import check_dependencies
from gateway.program.typed import T
from gateway.session import Session

F = TypeVar("F", bound=Callable[..., Any])


class Inclusion:
    """Where a router has been included. Made by `Gateway.include`.

    ``included[chat]`` is the router's channel there: needed where the router is included more than once, and nothing
    else says which is meant.
    """

    def __init__(
        self, program: Program, prefix: str, dependencies: Sequence[Depends], outer: "Inclusion | None" = None
    ) -> None:
        self.program = program
        self.prefix = prefix
        self.dependencies = check_dependencies(dependencies)
        self.outer = outer
        self.routes: dict[RouterChannel[Any], ChannelRoute[Any]] = {}
        self._inner: list[Inclusion] = []

    def within(self, prefix: str, dependencies: Sequence[Depends]) -> "Inclusion":
        """That of a router which this one's router includes."""
        inner = Inclusion(self.program, self.prefix + prefix, [*self.dependencies, *dependencies], self)
        self._inner.append(inner)
        return inner

    def find(self, channel: "RouterChannel[T]") -> list[ChannelRoute[T]]:
        """The channel's routes, here and in what is included here."""
        mine = [self.routes[channel]] if channel in self.routes else []
        return mine + [each for inner in self._inner for each in inner.find(channel)]

    def __getitem__(self, channel: ChannelRoute[T]) -> ChannelRoute[T]:
        """Raises ``LookupError`` for a channel that is not there, or more than once."""
        found = self.find(channel) if isinstance(channel, RouterChannel) else []
        if len(found) != 1:
            raise LookupError(f"{channel} is included here {len(found)} times: ask what included it just once")
        return found[0]


class ChannelRouter(BaseRouter):
    """Channels, procedures and dependencies of a module, as an ``APIRouter`` has routes ::

        router = ChannelRouter(prefix="chat:", dependencies=[Depends(current_user)])
        chat = router.channel("{room}", message=ChatMessage, history_size=100)

        @chat.on_subscribe
        async def join(room: str, client: Client) -> None: ...

        gateway.include(router, prefix="shop:")  # in another module

    ``prefix`` stands before the names of channels and procedures, and may have parameters. ``dependencies`` run before
    whatever a client asks of the channels (subscribe, publish, presence, history), and before each call; they can
    refuse it. It does not matter which is first, to declare or to include.
    """

    def __init__(self, *, prefix: str = "", dependencies: Sequence[Depends] = ()) -> None:
        self._prefix = prefix
        self._dependencies = check_dependencies(dependencies)
        self._declared: list[Callable[[Inclusion], Any]] = []
        self._included: list[ref[Inclusion]] = []
        self._routers: list[ChannelRouter] = []

    def include(self, router: "ChannelRouter", *, prefix: str = "", dependencies: Sequence[Depends] = ()) -> None:
        """Include another router, wherever this one is included."""
        check_router(router)
        if router._reaches(self):
            raise ValueError("a router cannot include itself, nor one that includes it")
        checked = check_dependencies(dependencies)
        self._routers.append(router)
        self._declare(lambda inclusion: router.enter(inclusion.within(prefix, checked)))

    # — inside —

    def enter(self, inclusion: Inclusion) -> Inclusion:
        """Declare all there."""
        inclusion = inclusion.within(self._prefix, self._dependencies)
        for entry in self._declared:
            entry(inclusion)
        self._included.append(ref(inclusion))
        inclusion.program.places.append(inclusion)
        return inclusion

    def inclusions(self) -> list[Inclusion]:
        """Where it is included, of what is still there: a test may have made many a gateway."""
        return [inclusion for each in self._included if (inclusion := each())]

    def _declare(self, entry: Callable[[Inclusion], Any]) -> None:
        for inclusion in self.inclusions():
            entry(inclusion)
        self._declared.append(entry)

    def _channel(self, declared: Declaration) -> ChannelRoute[Any]:
        channel: RouterChannel[Any] = RouterChannel(self, declared)
        self._declare(channel.include_in)
        return channel

    def _procedure(self, name: str, call: Callable[..., Any], dependencies: Sequence[Depends]) -> None:
        def include_in(inclusion: Inclusion) -> None:
            if "{" in inclusion.prefix:
                raise SettingsError(
                    f'rpc("{name}") would be called "{inclusion.prefix}{name}": the names of procedures have no '
                    "parameters; declare it in a router of its own"
                )
            inclusion.program.procedure(inclusion.prefix + name, call, dependencies, inclusion)

        self._declare(include_in)

    def _reaches(self, router: "ChannelRouter") -> bool:
        return router is self or any(each._reaches(router) for each in self._routers)


def check_router(given: object) -> None:
    """Raises ``TypeError``: editors know, but a module, or an ``APIRouter``, is soon written."""
    if not isinstance(given, ChannelRouter):
        raise TypeError(
            f"include({given!r}): it takes a ChannelRouter, such as `router` of a module, include(chat.router); "
            "routes for HTTP go to app.include_router"
        )


class _Nowhere:
    """The program of a router's channels, which are in none."""

    runs = False

    def check_open(self) -> None:
        """It is never too late."""

    @property
    def gateway(self) -> Operating:
        raise AssertionError("asked of the channel where it is included")

    def event(self, session: Session, params: Mapping[str, str], token: str = "") -> EventClient:
        raise AssertionError("asked of the channel where it is included")


class RouterChannel(ChannelRoute[T]):
    """The channels of a router: what is declared of them is declared wherever that is included."""

    def __init__(self, router: ChannelRouter, declared: Declaration) -> None:
        super().__init__(_Nowhere(), declared)  # which raises what would be wrong anywhere
        self._router = router
        self._declarations: list[Callable[[ChannelRoute[T]], Any]] = []

    def include_in(self, inclusion: Inclusion) -> None:
        route: ChannelRoute[T] = ChannelRoute(inclusion.program, self.declared, inclusion)
        inclusion.program.add(route)
        inclusion.routes[self] = route
        for declare in self._declarations:
            declare(route)

    def __repr__(self) -> str:
        return f'router.channel("{self.pattern.text}") at {self.declared.place}'

    def name(self, **params: object) -> str:
        return self._here().name(**params)

    def at(self, **params: object) -> ChannelHandle[T]:
        return self._here().at(**params)

    @overload
    def event(self, name: str, model: type[Named], *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Named]: ...
    @overload
    def event(self, name: str, model: Any = None, *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Any]: ...
    def event(self, name: str, model: Any = None, *, dependencies: Sequence[Depends] = ()) -> ChannelEvent[Any]:
        event = ChannelEvent[Any](name, lambda call: self.handle_event(name, call))
        check_dependencies(dependencies)
        self._declare(lambda route: route.event(name, model, dependencies=dependencies))
        return event

    def handle_event(self, name: str, call: Callable[..., Any]) -> None:
        self._declare(lambda route: route.handle_event(name, call))

    def _declare(self, declare: Callable[[ChannelRoute[T]], Any]) -> None:
        for inclusion in self._router.inclusions():
            declare(inclusion.routes[self])
        self._declarations.append(declare)

    def _here(self) -> ChannelRoute[T]:
        """The one that is meant: there is no other, or its handler runs, or its gateway does."""
        inclusion = CURRENT.get()
        while isinstance(inclusion, Inclusion):
            if len(found := inclusion.find(self)) == 1:
                return found[0]
            inclusion = inclusion.outer
        routes = [each.routes[self] for each in self._router.inclusions()]
        routes = [each for each in routes if each.program.runs] or routes
        names = {each.pattern.text for each in routes}
        if not names:
            raise RuntimeError(f"{self} is in no gateway yet: gateway.include(router) where the gateway is made")
        if len(names) > 1:
            raise RuntimeError(
                f"{self} is included as {' and '.join(sorted(names))}: keep what gateway.include returns, and ask that "
                'for the one that is meant, as in shop[chat].at(room="lobby")'
            )
        return routes[-1]


def _recorded(name: str) -> Any:
    def decorate(self: RouterChannel[Any], call: F) -> F:
        self._declare(lambda route: getattr(route, name)(call))
        return call

    return decorate


for _name in [each for each in vars(ChannelRoute) if each.startswith("on_") or each == "live"]:
    setattr(RouterChannel, _name, _recorded(_name))
