"""Whether a handler can be called, found out when it is declared."""

import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from traceback import walk_tb
from types import FrameType, NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin, get_type_hints

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import (
    get_dependant,
    get_parameterless_sub_dependant,
    get_typed_return_annotation,
    get_typed_signature,
)
from fastapi.exceptions import FastAPIError
from fastapi.params import Depends
from msgspec import Struct
from pydantic.fields import FieldInfo
from starlette.requests import HTTPConnection

from gateway.program.routes.client import Client


class Event(Struct, frozen=True):
    """What a kind of handler is given. ``example`` is how one is written."""

    name: str
    example: str
    payload: bool = False
    """Whether the client sends data with it."""
    client: bool = True
    """Whether there is one client that causes it."""
    generator: bool = False


class SignatureError(TypeError):
    """A handler that could never be called. The text shows one that can."""


def examine(
    call: Callable[..., Any],
    event: Event,
    params: Iterable[str],
    pattern: str = "",
    dependencies: Sequence[Depends] = (),
) -> Dependant:
    """What FastAPI's solver needs to call the handler, after the dependencies. Raises `SignatureError`."""
    params = list(params)
    path = "".join(f"/{{{name}}}" for name in params)

    refuse = partial(refusal, call, event, params, pattern)
    if not callable(call):
        raise TypeError(f"{event.name} decorates a function, not {call!r}")
    _check_kind(call, event, refuse)
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise refuse(f"has the parameter {parameter}, which nothing can be passed for: name each one")
    try:
        dependant = get_dependant(path=path, call=call)
        dependant.dependencies[:0] = [get_parameterless_sub_dependant(depends=each, path=path) for each in dependencies]
    except (FastAPIError, AssertionError) as error:
        culprit, problem = _unsolvable(error, params)
        raise refusal(culprit, event, params, pattern, problem) from error
    if problem := _unknown(dependant) or _unexplained(dependant, params) or _unmet(dependant, event):
        raise refuse(problem)
    return dependant


def refusal(call: Any, event: Event, params: Sequence[str], pattern: str, problem: str) -> SignatureError:
    """What is wrong with a handler, and how one is written."""
    place = f' of "{pattern}"' if pattern else ""
    return SignatureError(
        f"{event.name}{place}: {name_of(call)}{_signature(call)} {problem}; for example:\n\n"
        + event.example.format(params="".join(f"{name}: str, " for name in params))
    )


Refusal = Callable[[str], SignatureError]


def check_dependencies(given: Any) -> list[Depends]:
    """Raises ``TypeError`` for what is no list of ``Depends``."""
    if isinstance(given, Depends) or not all(isinstance(each, Depends) for each in given):
        raise TypeError(f"dependencies={given!r}: write dependencies=[Depends(current_user)]")
    return list(given)


def _check_kind(call: Callable[..., Any], event: Event, refuse: Refusal) -> None:
    generates = is_at_any_level(inspect.isasyncgenfunction, call)
    if event.generator and not generates:
        raise refuse("is no asynchronous generator: it must be `async def` and `yield` what is to be published")
    if not event.generator and (generates or is_at_any_level(inspect.isgeneratorfunction, call)):
        raise refuse("is a generator; return the answer, and leave `yield` to dependencies")


def _unsolvable(error: Exception, params: Sequence[str]) -> tuple[Callable[..., Any], str]:
    """Where FastAPI has stumbled, the handler or one of its dependencies, and upon what.

    It does not say so, but was at work there: its frame knows.
    """
    at = [frame.f_locals for frame, _ in walk_tb(error.__traceback__) if frame.f_code is get_dependant.__code__][-1]
    call, name = at["call"], at["param_name"]
    if name in params:
        return call, (
            f"takes {name}, which is a parameter of the pattern, from elsewhere ({error}): name one of them otherwise; "
            f'a cookie, for example, may be `other: Annotated[str, Cookie(alias="{name}")]`'
        )
    if str(error).startswith("Invalid args for response field"):
        return call, (
            f"takes {name}, of a type that no data can have; what the program makes itself comes from a dependency: "
            f"`{name}: Annotated[..., Depends(...)]`"
        )
    return call, f"cannot be called: {str(error).splitlines()[0]}"


def _unknown(dependant: Dependant) -> str:
    """What is annotated with a name that only the type checker knows."""
    fields = [*dependant.path_params, *dependant.query_params, *dependant.body_params]
    for field in fields:
        annotation: Any = field.field_info.annotation
        if isinstance(annotation, ForwardRef | str):
            return f"takes {field.name}, whose type is not known when the program runs: import it for good"
    return ""


def _unexplained(dependant: Dependant, params: Sequence[str]) -> str:
    """What FastAPI would look for in the query, though nobody says so: a misspelt parameter, or data of the client.

    Those of dependencies are FastAPI's as ever.
    """
    declared = _parameters(dependant)
    for name in (field.name for field in dependant.query_params):
        annotation = declared[name].annotation
        marks = [declared[name].default, *(get_args(annotation) if get_origin(annotation) is Annotated else ())]
        if not any(isinstance(mark, FieldInfo) for mark in marks):
            there = f"there are {', '.join(params)}" if params else "it has none"
            return (
                f"takes {name}, which is no parameter of the pattern ({there}); "
                f"from the handshake's query it would be `{name}: Annotated[str, Query()]`, as data of the client "
                f"`{name}: Annotated[str, Body()]`"
            )
    return ""


def _unmet(dependant: Dependant, event: Event) -> str:
    connections = [dependant.http_connection_param_name, dependant.request_param_name, dependant.websocket_param_name]
    if not event.client and any(connections):
        return "takes a client, but no single client causes this"
    if not event.client and (name := _needs_client(dependant)):
        return f"depends on {name}, which takes a client, but no single client causes this"
    several = [each.name for each in _parameters(dependant).values() if _is(HTTPConnection, each.annotation)]
    if len(several) > len([name for name in connections if name]):
        return f"takes {' and '.join(several)}, which are one and the same: take the client alone"
    bodies = [field.name for field in dependant.body_params]
    if len(bodies) > 1:
        return f"takes {' and '.join(bodies)} as data, but there is one: make one model of them"
    if not event.payload and (names := names_of_data(dependant)):
        return f"takes {names[0]}, but no data comes with this event; a dependency is written `Depends(...)`"
    return ""


def names_of_data(dependant: Dependant) -> list[str]:
    """Names of what is taken as data, by its dependencies too."""
    mine = [field.name for field in dependant.body_params]
    return mine + [name for each in dependant.dependencies for name in names_of_data(each)]


def _needs_client(dependant: Dependant) -> str:
    """The name of a dependency that takes a `Client`. A request will do without: it leads to the application."""
    for each in dependant.dependencies:
        if any(_is(Client, parameter.annotation) for parameter in _parameters(each).values()):
            return name_of(each.call)
        if name := _needs_client(each):
            return name
    return ""


def _is(kind: type, annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return inspect.isclass(annotation) and issubclass(annotation, kind)


def _parameters(dependant: Dependant) -> Mapping[str, inspect.Parameter]:
    """What it takes itself, not from dependencies. FastAPI reads each annotation whatever becomes of the others."""
    declared = get_typed_signature(dependant.call).parameters if dependant.call else {}
    given = {each.name for each in dependant.dependencies}
    return {name: each for name, each in declared.items() if name not in given}


def returned(call: Callable[..., Any]) -> Any:
    """The annotation of what a handler returns; None without one, ``NoneType`` for ``-> None``.

    Raises `SignatureError` for a name that only the type checker knows: nobody could say what may be shown.
    """
    if inspect.signature(call).return_annotation is inspect.Signature.empty:
        return None
    *_, innermost = _levels(call)
    # FastAPI leaves names within others alone, as in list["Room"]
    annotations = SimpleNamespace(__annotations__={"return": get_typed_return_annotation(call)})
    try:
        return get_type_hints(annotations, getattr(innermost, "__globals__", {}), include_extras=True)["return"]
    except NameError as error:
        raise SignatureError(
            f"{name_of(call)} returns {error.name}, whose type is not known when the program runs: import it for good"
        ) from error


def always_gives(call: Callable[..., Any]) -> bool:
    """Whether a handler says that it never returns None."""
    try:
        return not _may_be_none(returned(call))
    except SignatureError:  # what only a type checker knows is no promise that can be kept
        return False


def _may_be_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _may_be_none(get_args(annotation)[0])
    if len(several := members(annotation)) > 1:
        return any(map(_may_be_none, several))
    kind = get_origin(annotation) or annotation
    return not inspect.isclass(kind) or kind in (NoneType, Any, object)


def yielded(call: Callable[..., Any]) -> Any:
    """``Tick`` of ``AsyncIterator[Tick]``; None without annotation."""
    annotation = returned(call)
    arguments = get_args(annotation) if get_origin(annotation) in (AsyncGenerator, AsyncIterable, AsyncIterator) else ()
    return arguments[0] if arguments else None


def members(annotation: Any) -> tuple[Any, ...]:
    """What a union is made of; what is none is the one member."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def is_at_any_level(kind: Callable[[Any], bool], call: Any) -> bool:
    """Whether ``call`` is, somewhere within, of the kind that a test of `inspect` looks for."""
    return any(map(kind, _levels(call)))


def _levels(call: Any) -> Iterator[Any]:
    """From what is called to the innermost function: through ``partial``, ``__call__`` and decorators."""
    yield call
    if isinstance(call, partial):
        yield from _levels(call.func)
    elif not (inspect.isroutine(call) or inspect.isclass(call)):
        yield from _levels(call.__call__)
    if hasattr(call, "__wrapped__"):
        yield from _levels(call.__wrapped__)


def name_of(call: Any) -> str:
    return getattr(call, "__qualname__", repr(call))


def place_of(call: Any) -> str:
    """Where a function is written, as ``file:line``; what has no code of its own is shown as it is."""
    *_, innermost = _levels(call)
    code = getattr(innermost, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(call)


def calling_place() -> str:
    """Where the program has called the gateway, as ``file:line``."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "gateway":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"


def _signature(call: Callable[..., Any]) -> str:
    text = str(inspect.signature(call))
    return text if len(text) < 200 else "(...)"
