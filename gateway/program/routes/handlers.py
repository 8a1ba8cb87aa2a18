"""A handler of the program: called with what FastAPI makes of the handshake and the data."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import NoneType
from typing import Any, Union, get_args, get_origin

import msgspec
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import SolvedDependency, solve_dependencies
from fastapi.params import Depends
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.auth.permissions import is_json
from gateway.core.tasks import Spawn
from gateway.errors import Error, ErrorCode
from gateway.messages import Payload
from gateway.program.encoding import encode_data
from gateway.program.errors import ChannelError
from gateway.program.routes.answers import invalid, translate
from gateway.program.routes.client import EventClient
from gateway.program.routes.plan import NO_DATA, Plan, is_text
from gateway.program.routes.signatures import (
    Event,
    SignatureError,
    always_gives,
    examine,
    is_at_any_level,
    members,
    name_of,
    names_of_data,
    returned,
    yielded,
)
from gateway.program.routes.tokens import api_keys, security_schemes, show_token

REMEMBERS_SCOPES = "_uses_scopes_cache" in inspect.signature(solve_dependencies).parameters
"""Whether FastAPI's solver can be given what it found out of a dependency's scopes before: a third of its time."""


ADVICE_INTERVAL = 60.0
"""Seconds between two lines of a log about what one handler might do better."""

log = logging.getLogger(__name__)


class Handler:
    """One handler. Its signature is examined once; its dependencies open and close with every call."""

    def __init__(
        self,
        call: Callable[..., Any],
        event: Event,
        params: Iterable[str] = (),
        pattern: str = "",
        dependencies: Sequence[Depends] = (),
        message: Any = None,
    ) -> None:
        self.call = call
        self.event = event
        self._dependant = examine(call, event, params, pattern, dependencies)
        self.schemes = security_schemes(self._dependant)
        """What it goes by to tell who the client is."""
        self._keys = api_keys(self.schemes)
        self._plan = Plan.of(self._dependant)
        self._texts = _take_texts(self._dependant)
        data = next(iter(self._dependant.body_params), None)
        self.takes: Any = data and data.field_info.annotation
        """The type of the data that it takes; None for none."""
        self.data_name = data.name if data else ""
        self.needs_data = data is not None and data.field_info.is_required()
        self.takes_indirectly = bool(names_of_data(self._dependant))
        """Whether it or a dependency takes data."""
        _fix_scopes(self._dependant)
        self._shortcuts: dict[str, Any] = {"_uses_scopes_cache": {}} if REMEMBERS_SCOPES else {}
        if not _takes_response(self._dependant):
            self._shortcuts["response"] = Response()
        self._advise_at = 0.0
        self._always_gives = always_gives(call)
        self._in_thread = not (event.generator or is_at_any_level(inspect.iscoroutinefunction, call))
        if event.generator:
            self._items = Answering(call, read=yielded, message=message)

    async def __call__(self, connection: EventClient, data: bytes, spawn: Spawn) -> Any:
        """What the handler returns. Raises ``Error``, ``Disconnect``, or what the handler fails with."""
        if self._keys and connection.token:
            show_token(connection, self._keys)
        began = time.monotonic()
        try:
            if self._plan is not None and not connection.overrides:
                return await self._run(await self._plan.values(connection, self._read(data)))
            async with self._opened(connection, data, spawn) as values:
                return await self._run(values)
            raise RuntimeError(_SWALLOWED)
        except asyncio.CancelledError as failure:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # of something that the handler has waited for: nobody wants to end its event
            raise RuntimeError(f"{self.event.name} waited for something that was cancelled") from failure
        except ChannelError as failure:
            self._advise(failure)
            raise
        except Exception as failure:
            # in no variable: this frame is in its traceback, and would keep it, and the client, for the collector
            if translate(failure, connection.token_expired) is failure:
                raise
            raise translate(failure, connection.token_expired) from failure
        finally:
            connection.took(self.event.name, time.monotonic() - began)

    def _advise(self, failure: ChannelError) -> None:
        """Log what a client is not told. Not each time: clients may bring it about as often as they like."""
        now = time.monotonic()
        if now >= self._advise_at:
            self._advise_at = now + ADVICE_INTERVAL
            log.warning("%s (%s) failed: %s", name_of(self.call), self.event.name, failure)

    async def iterate(self, connection: EventClient, spawn: Spawn) -> AsyncGenerator[Any, None]:
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

    def _read(self, data: bytes) -> Any:
        """The data as what JSON has, if anybody takes it: clients that do not speak JSON may send anything."""
        return _decode(data) if self.takes_indirectly else NO_DATA

    async def _run(self, values: dict[str, Any]) -> Any:
        value = await (run_in_threadpool(self.call, **values) if self._in_thread else self.call(**values))
        if value is None and self._always_gives:
            # None lets in and publishes, which is not what somebody means who has forgotten a `return`
            raise TypeError(f"{name_of(self.call)} ({self.event.name}) has returned None, which it does not say it may")
        return value

    @asynccontextmanager
    async def _opened(self, connection: EventClient, data: bytes, spawn: Spawn) -> AsyncIterator[dict[str, Any]]:
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
        self, connection: EventClient, data: bytes, outer: AsyncExitStack, inner: AsyncExitStack
    ) -> SolvedDependency:
        scope: Any = connection.scope
        scope["fastapi_inner_astack"], scope["fastapi_function_astack"] = outer, inner
        overrides = connection.overrides
        # what overrides bring along is made anew each time, and must not be remembered
        shortcuts = {} if overrides else self._shortcuts
        solved = await solve_dependencies(
            request=connection,
            dependant=self._dependant,
            dependency_overrides_provider=scope["app"] if overrides else None,
            async_exit_stack=outer,
            embed_body_fields=False,
            body=self._read(data),
            **shortcuts,
        )
        if solved.errors:
            raise invalid(solved.errors)
        for name in self._texts:
            solved.values[name] = scope["path_params"][name]
        return solved


_SWALLOWED = "a dependency has kept a failure to itself: behind its `yield`, every `except` must `raise` in the end"
"""Going on as if nothing had happened would let in whom the handler has refused."""


def _decode(data: bytes) -> Any:
    if not data:
        return NO_DATA
    try:
        return msgspec.json.decode(data)
    # what is a part of a frame has been looked at from outside only
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: {error}") from error


def _fix_scopes(dependant: Dependant) -> None:
    """Write down how long dependencies are open by themselves: the solver works it out with every call otherwise."""
    for each in dependant.dependencies:
        each.scope = each.scope or "request"
        _fix_scopes(each)


def _take_texts(dependant: Dependant) -> list[str]:
    """Take out the pattern's parameters that are passed as they are: the solver need not look at text."""
    texts = [each for each in dependant.path_params if is_text(each) and each.alias == each.name]
    dependant.path_params = [each for each in dependant.path_params if each not in texts]
    return [each.name for each in texts]


def _takes_response(dependant: Dependant) -> bool:
    """Whether anything may write to a response, which goes nowhere: one for all events would do otherwise."""
    return bool(dependant.response_param_name) or any(map(_takes_response, dependant.dependencies))


class Answering:
    """Makes data of what a handler returns, by the type that it says it returns.

    ``read`` finds the type in the signature: `returned`, or `yielded` for each item of a generator. Where it says
    nothing, it is the channel's ``message``.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        leave_out: tuple[Any, ...] = (),
        read: Callable[[Callable[..., Any]], Any] = returned,
        message: Any = None,
    ) -> None:
        annotation = read(call)
        self.type = _without(annotation, leave_out) or _without(message, ())
        """What clients get; None if nobody says."""
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
    # what says how it is published, as Message[ChatMessage], stands for that
    bare = (get_args(each)[0] if get_origin(each) in leave_out else each for each in members(annotation))
    left = tuple(each for each in bare if each not in (None, NoneType, Any, *leave_out))
    return Union[left] if left else None  # noqa: UP007  of a tuple
