"""What is tested: an application, a function that makes one, or where to import it."""

import inspect
import sys
from collections.abc import Callable
from functools import reduce
from importlib.util import find_spec, module_from_spec
from typing import Any

from starlette.types import ASGIApp

Source = ASGIApp | Callable[[], ASGIApp] | str
"""An application, a function that makes one, or ``"module:app"``."""


def make_apps(source: Source, nodes: int) -> list[ASGIApp]:
    """One application for each node. Raises ``ValueError`` where a single one would have to run twice."""
    if isinstance(source, str):
        return [_called(_imported(source)) for _ in range(nodes)]
    apps = [_called(source) for _ in range(nodes)]
    if len({id(app) for app in apps}) < nodes:
        raise ValueError(
            "each node runs an application of its own: pass a function that makes one, Kit(create_app, nodes=2), "
            'or say where it is imported from, Kit("chat:app", nodes=2), to have its module read once for each node'
        )
    return apps


def _called(app: Any) -> Any:
    return app() if _is_factory(app) else app


def _is_factory(source: object) -> bool:
    """Whether it is called without arguments: applications take three."""
    if not callable(source):
        raise TypeError(f"{source!r} is no application: pass a FastAPI application, or a function that makes one")
    return not [each for each in inspect.signature(source).parameters.values() if each.default is each.empty]


def _imported(path: str) -> Any:
    """The attribute of a fresh copy of its module; what that imports is not copied."""
    name, _, attribute = path.partition(":")
    spec = find_spec(name)
    if spec is None or spec.loader is None or not attribute:
        raise ValueError(f'{path!r} cannot be imported: write "module:attribute", as for uvicorn')
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return reduce(getattr, attribute.split("."), module)
