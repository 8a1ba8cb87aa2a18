"""A handler of the program: called with what FastAPI's own solver makes of the handshake and the data."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from fastapi.dependencies.utils import solve_dependencies
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from gateway.encoding import encode_data
from gateway.messages import Payload
from gateway.routes.answers import invalid, translate
from gateway.routes.signatures import Event, SignatureError, examine, model_of, returned
from gateway.tasks import Spawn


class Handler:
    """One handler. Its signature is examined once; its dependencies open and close with every call."""

    def __init__(self, call: Callable[..., Any], event: Event, params: Iterable[str] = (), pattern: str = "") -> None:
        self.call = call
        self.event = event
        self._dependant = examine(call, event, params, pattern)
        self.takes = model_of(self._dependant)
        """The type of the data that it takes; None for none."""
        self.needs_data = any(field.field_info.is_required() for field in self._dependant.body_params)
        self._in_thread = not (inspect.iscoroutinefunction(inspect.unwrap(call)) or event.generator)

    async def __call__(self, connection: HTTPConnection, data: bytes, spawn: Spawn) -> Any:
        """What the handler returns. Raises ``Error``, ``Disconnect``, or what the handler fails with."""
        try:
            async with self._solved(connection, data, spawn) as values:
                if self._in_thread:
                    return await run_in_threadpool(self.call, **values)
                return await self.call(**values)
        except Exception as failure:
            translated = translate(failure)
            if translated is failure:
                raise
            raise translated from failure

    async def iterate(self, connection: HTTPConnection, spawn: Spawn) -> AsyncGenerator[Any, None]:
        """What an asynchronous generator yields; its dependencies are open as long as it runs."""
        async with self._solved(connection, b"", spawn) as values:
            generator = self.call(**values)
            try:
                async for each in generator:
                    yield each
            finally:
                await generator.aclose()

    @asynccontextmanager
    async def _solved(self, connection: HTTPConnection, data: bytes, spawn: Spawn) -> AsyncIterator[dict[str, Any]]:
        scope: Any = connection.scope
        async with AsyncExitStack() as outer, AsyncExitStack() as inner:
            scope["fastapi_inner_astack"], scope["fastapi_function_astack"] = outer, inner
            solved = await solve_dependencies(
                request=connection,  # type: ignore[arg-type]  # it is both a Request and a WebSocket
                dependant=self._dependant,
                body=msgspec.json.decode(data) if data else None,
                dependency_overrides_provider=scope.get("app"),
                async_exit_stack=outer,
                embed_body_fields=False,
            )
            if solved.errors:
                raise invalid(solved.errors)
            yield solved.values
        if solved.background_tasks is not None:
            spawn(solved.background_tasks())


class Answering:
    """Makes data of what a handler returns, by the type that it says it returns."""

    def __init__(self, call: Callable[..., Any], leave_out: tuple[Any, ...] = ()) -> None:
        annotation = returned(call)
        self.type = _without(annotation, leave_out)
        """What clients get; None if the handler does not say."""
        try:
            self._adapter = None if self.type is None else TypeAdapter(self.type)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            raise SignatureError(
                f"{call.__qualname__} returns {annotation}, of which no data can be made; return a pydantic model "
                "(for objects of a database: with model_config = ConfigDict(from_attributes=True)), or what JSON has"
            ) from error

    def encode(self, value: Any) -> Payload:
        if self._adapter is None or isinstance(value, Payload):
            return encode_data(value)
        checked = self._adapter.validate_python(value, from_attributes=True)
        return Payload(self._adapter.dump_json(checked, by_alias=True))


def _without(annotation: Any, leave_out: tuple[Any, ...]) -> Any:
    """The annotation without what is no data; None if nothing is left, or nothing is known."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    left = tuple(each for each in members if each not in (None, NoneType, Any, *leave_out))
    return Union[left] if left else None  # noqa: UP007  of a tuple
