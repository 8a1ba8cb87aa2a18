"""The order in which a handler's dependencies are called, found out once.

FastAPI's solver finds out with each call what a dependency takes, how it is called, and what its result is remembered
by. A plan does as that does, in its order, for the dependencies that most programs have. Where there are others
(``yield``, scopes, background tasks, a response, limits of concurrency, overrides) the solver itself is called.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args, solve_dependencies
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from gateway.program.routes.answers import invalid
from gateway.program.routes.signatures import is_at_any_level

NO_DATA = inspect.signature(solve_dependencies).parameters["body"].default
"""What FastAPI takes for a body that did not come."""

_UNPLANNED = (
    "background_tasks_param_name",
    "response_param_name",
    "security_scopes_param_name",
    "own_oauth_scopes",
    "parent_oauth_scopes",
    "security_scopes",
    "concurrency",
)
"""What a plan leaves to the solver, where a dependant has it; not every FastAPI has all of them."""

_FAILED = object()
"""In place of a result: what the dependency takes does not validate."""


class Text(Struct, frozen=True):
    """A header, cookie, … that is text, and is passed as it is."""

    name: str
    alias: str
    required: bool
    default: str | None


class Source(Struct, frozen=True):
    """What a step takes from one part of the connection, such as its headers."""

    part: str
    texts: list[Text]
    others: list[Any]
    """Fields that FastAPI looks at; it looks at all where a text is missing, and says what is wrong."""
    fields: list[Any]


class Step(Struct, frozen=True):
    """A dependency that is called; the last step of a plan is the handler, which is called by others."""

    call: Callable[..., Any]
    threaded: bool
    kept_as: int
    """By what its result is remembered, which is the same for the same call; -1 if it is called once."""
    reuses: bool
    """Whether a result that is remembered will do."""
    takes: tuple[tuple[str | None, int], ...]
    """Parameters, and the steps whose results they are."""
    connections: tuple[str, ...]
    sources: tuple[Source, ...]
    data: list[Any]


class Plan:
    """The steps that lead to a handler."""

    def __init__(self, dependant: Dependant) -> None:
        calls = [(each.call, each.scope) for each in _all(dependant)]
        self._repeated = [call for call in calls if calls.count(call) > 1]
        self._steps: list[Step] = []
        self._add(dependant)

    @classmethod
    def of(cls, dependant: Dependant) -> "Plan | None":
        """A plan, if there can be one."""
        found = list(_all(dependant))
        if any(getattr(each, name, None) for each in found for name in _UNPLANNED):
            return None
        return None if any(_opens(each.call) for each in found[1:]) else cls(dependant)

    async def values(self, connection: HTTPConnection, data: Any) -> dict[str, Any]:
        """What the handler takes. Raises ``Error`` (bad request), or what a dependency raises."""
        results: list[Any] = []
        kept: dict[int, Any] = {}
        errors: list[Any] = []
        values: dict[str, Any] = {}
        for step in self._steps:
            if step.reuses and step.kept_as in kept:
                results.append(kept[step.kept_as])
                continue
            values, before = {}, len(errors)
            fine = _fill(values, step, results, connection, errors)
            if step.data:
                found, wrong = await request_body_to_args(step.data, data, embed_body_fields=False)
                values.update(found)
                errors += wrong
            if step is self._steps[-1]:
                break
            if not fine or len(errors) > before:
                results.append(_FAILED)
                continue
            result = await (run_in_threadpool(step.call, **values) if step.threaded else step.call(**values))
            results.append(result)
            if step.kept_as >= 0:
                kept.setdefault(step.kept_as, result)
        if errors:
            raise invalid(errors)
        return values

    def _add(self, dependant: Dependant) -> int:
        takes = tuple((each.name, self._add(each)) for each in dependant.dependencies)
        call = dependant.call
        assert call is not None, "only one that is being built has none"
        either = dependant.request_param_name or dependant.websocket_param_name
        sources = (
            _source("path_params", dependant.path_params),
            _source("query_params", dependant.query_params),
            _source("headers", dependant.header_params),
            _source("cookies", dependant.cookie_params),
        )
        self._steps.append(
            Step(
                call,
                threaded=not is_at_any_level(inspect.iscoroutinefunction, call),
                kept_as=self._repeated.index(same) if (same := (call, dependant.scope)) in self._repeated else -1,
                reuses=dependant.use_cache,
                takes=takes,
                connections=tuple(name for name in (dependant.http_connection_param_name, either) if name),
                sources=tuple(each for each in sources if each.fields),
                data=dependant.body_params,
            )
        )
        return len(self._steps) - 1


def _fill(
    values: dict[str, Any], step: Step, results: list[Any], connection: HTTPConnection, errors: list[Any]
) -> bool:
    """Put down what a step takes, but for data; False if one that it depends on has failed."""
    fine = True
    for name, at in step.takes:
        if (result := results[at]) is _FAILED:
            fine = False
        elif name is not None:
            values[name] = result
    for name in step.connections:
        values[name] = connection
    for source in step.sources:
        part = getattr(connection, source.part)
        fields = source.others
        for text in source.texts:
            value = part.get(text.alias, text.default)
            if value is None and text.required:
                fields = source.fields
            values[text.name] = value
        if fields:
            found, wrong = request_params_to_args(fields, part)
            values.update(found)
            errors += wrong
    return fine


def _source(part: str, fields: list[Any]) -> Source:
    texts, others = [], []
    for each in fields:
        if is_text(each):
            required = each.field_info.is_required()
            texts.append(Text(each.name, each.alias, required, None if required else each.field_info.default))
        else:
            others.append(each)
    return Source(part, texts, others, fields)


def is_text(field: Any) -> bool:
    """Whether a parameter is text that is passed as it is: nobody need look at it."""
    info = field.field_info
    return (
        info.annotation in (str, str | None)
        and not (info.metadata or info.default_factory or info.validate_default or getattr(field, "config", None))
        and info.validation_alias in (None, field.alias)
        and (info.is_required() or info.default is None or type(info.default) is str)
    )


def _opens(call: Any) -> bool:
    """Whether a dependency has a ``yield``, and is open until the handler has returned."""
    return is_at_any_level(inspect.isgeneratorfunction, call) or is_at_any_level(inspect.isasyncgenfunction, call)


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _all(each)
