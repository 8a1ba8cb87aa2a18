"""A handler of the program: called with what FastAPI's own solver makes of the handshake and the data."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import SolvedDependency, solve_dependencies
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.auth.permissions import is_json
from gateway.core.tasks import Spawn
from gateway.errors import Error, ErrorCode
from gateway.messages import Payload
from gateway.program.encoding import encode_data
from gateway.program.routes.answers import invalid, translate
from gateway.program.routes.signatures import (
    Event,
    SignatureError,
    examine,
    is_at_any_level,
    model_of,
    name_of,
    returned,
    yielded,
)

REMEMBERS_SCOPES = "_uses_scopes_cache" in inspect.signature(solve_dependencies).parameters
"""Whether FastAPI's solver can be given what it found out of a dependency's scopes before: a third of its time."""


class Handler:
    """One handler. Its signature is examined once; its dependencies open and close with every call."""

    def __init__(self, call: Callable[..., Any], event: Event, params: Iterable[str] = (), pattern: str = "") -> None:
        self.call = call
        self.event = event
        self._dependant = examine(call, event, params, pattern)
        self._texts = _take_texts(self._dependant)
        self.takes = model_of(self._dependant)
        """The type of the data that it takes; None for none."""
        self.needs_data = any(field.field_info.is_required() for field in self._dependant.body_params)
        _fix_scopes(self._dependant)
        self._opens = _opens(self._dependant)
        self._shortcuts: dict[str, Any] = {"_uses_scopes_cache": {}} if REMEMBERS_SCOPES else {}
        if not _takes_response(self._dependant):
            self._shortcuts["response"] = Response()
        self._in_thread = not (event.generator or is_at_any_level(inspect.iscoroutinefunction, call))
        if event.generator:
            self._items = Answering(call, read=yielded)

    async def __call__(self, connection: HTTPConnection, data: bytes, spawn: Spawn) -> Any:
        """What the handler returns. Raises ``Error``, ``Disconnect``, or what the handler fails with."""
        try:
            if self._opens or _overrides(connection):
                async with self._opened(connection, data, spawn) as values:
                    return await self._run(values)
                raise RuntimeError(_SWALLOWED)
            solved = await self._solve(connection, data, _NOTHING, _NOTHING)
            returned = await self._run(solved.values)
            if solved.background_tasks is not None:
                spawn(solved.background_tasks())
            return returned
        except asyncio.CancelledError as failure:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # of something that the handler has waited for: nobody wants to end its event
            raise RuntimeError(f"{self.event.name} waited for something that was cancelled") from failure
        except Exception as failure:
            # in no variable: this frame is in its traceback, and would keep it, and the client, for the collector
            if translate(failure) is failure:
                raise
            raise translate(failure) from failure

    async def iterate(self, connection: HTTPConnection, spawn: Spawn) -> AsyncGenerator[Any, None]:
        """What an asynchronous generator yields, as data; its dependencies are open as long as it runs."""
        async with self._opened(connection, b"", spawn) as values:
            generator = self.call(**values)
            try:
                async for each in generator:
                    # bytes are a binary publication, whatever the type says
                    yield each if each is None or isinstance(each, bytes) else self._items.encode(each)
                return
            finally:
                await generator.aclose()
        raise RuntimeError(_SWALLOWED)

    async def _run(self, values: dict[str, Any]) -> Any:
        return await (run_in_threadpool(self.call, **values) if self._in_thread else self.call(**values))

    @asynccontextmanager
    async def _opened(self, connection: HTTPConnection, data: bytes, spawn: Spawn) -> AsyncIterator[dict[str, Any]]:
        """What the handler takes, for as long as its ``yield`` dependencies are open."""
        solved: SolvedDependency | None = None
        async with AsyncExitStack() as outer, AsyncExitStack() as inner:
            solved = await self._solve(connection, data, outer, inner)
            yield solved.values
        if solved is None:
            raise RuntimeError(_SWALLOWED)
        if solved.background_tasks is not None:
            spawn(solved.background_tasks())

    async def _solve(
        self, connection: HTTPConnection, data: bytes, outer: AsyncExitStack, inner: AsyncExitStack
    ) -> SolvedDependency:
        scope: Any = connection.scope
        scope["fastapi_inner_astack"], scope["fastapi_function_astack"] = outer, inner
        body = {"body": _decode(data)} if data else {}
        overrides = _overrides(connection)
        # what overrides bring along is made anew each time, and must not be remembered
        shortcuts = {} if overrides else self._shortcuts
        solved = await solve_dependencies(
            request=connection,  # type: ignore[arg-type]  # it is both a Request and a WebSocket
            dependant=self._dependant,
            dependency_overrides_provider=scope["app"] if overrides else None,
            async_exit_stack=outer,
            embed_body_fields=False,
            **shortcuts,
            **body,
        )
        if solved.errors:
            raise invalid(solved.errors)
        for name in self._texts:
            solved.values[name] = scope["path_params"][name]
        return solved


_NOTHING = AsyncExitStack()
"""What is open where no dependency has a ``yield``."""

_SWALLOWED = "a dependency has kept a failure to itself: behind its `yield`, every `except` must `raise` in the end"
"""Going on as if nothing had happened would let in whom the handler has refused."""


def _overrides(connection: HTTPConnection) -> Any:
    return getattr(connection.scope.get("app"), "dependency_overrides", None)


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    # what is a part of a frame has been looked at from outside only
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: {error}") from error


def _opens(dependant: Dependant) -> bool:
    """Whether a dependency has a ``yield``, and is open until the handler has returned."""
    return any(
        is_at_any_level(inspect.isgeneratorfunction, each.call)
        or is_at_any_level(inspect.isasyncgenfunction, each.call)
        or _opens(each)
        for each in dependant.dependencies
    )


def _fix_scopes(dependant: Dependant) -> None:
    """Write down how long dependencies are open by themselves: the solver works it out with every call otherwise."""
    for each in dependant.dependencies:
        each.scope = each.scope or "request"
        _fix_scopes(each)


def _take_texts(dependant: Dependant) -> list[str]:
    """Take out the pattern's parameters that are passed as they are: the solver need not look at text."""
    texts = [
        each
        for each in dependant.path_params
        if each.field_info.annotation is str and not each.field_info.metadata and each.alias == each.name
    ]
    dependant.path_params = [each for each in dependant.path_params if each not in texts]
    return [each.name for each in texts]


def _takes_response(dependant: Dependant) -> bool:
    """Whether anything may write to a response, which goes nowhere: one for all events would do otherwise."""
    return bool(dependant.response_param_name) or any(map(_takes_response, dependant.dependencies))


class Answering:
    """Makes data of what a handler returns, by the type that it says it returns.

    ``read`` finds the type in the signature: `returned`, or `yielded` for each item of a generator.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        leave_out: tuple[Any, ...] = (),
        read: Callable[[Callable[..., Any]], Any] = returned,
    ) -> None:
        annotation = read(call)
        self.type = _without(annotation, leave_out)
        """What clients get; None if the handler does not say."""
        try:
            self._adapter = None if self.type is None else TypeAdapter(self.type)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            raise SignatureError(
                f"{name_of(call)} gives {annotation}, of which no data can be made; return a pydantic model "
                "(for objects of a database: with model_config = ConfigDict(from_attributes=True)), or what JSON has"
            ) from error

    def encode(self, value: Any) -> Payload:
        if self._adapter is None or isinstance(value, Payload):
            return encode_data(value)
        checked = self._adapter.validate_python(value, from_attributes=True)
        data = self._adapter.dump_json(checked, by_alias=True)
        if (b"NaN" in data or b"Infinity" in data) and not is_json(data):
            raise TypeError(f"{value!r} holds NaN or an infinity, which JSON has not")
        return Payload(data)


def _without(annotation: Any, leave_out: tuple[Any, ...]) -> Any:
    """The annotation without what is no data; None if nothing is left, or nothing is known."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    left = tuple(each for each in members if each not in (None, NoneType, Any, *leave_out))
    return Union[left] if left else None  # noqa: UP007  of a tuple
