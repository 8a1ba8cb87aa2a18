"""A program's gateway, found by name: ``app.main:gateway``."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.contracts.contract import Contract
from gateway.contracts.reading import contract_of
from gateway.program.gateway import Gateway

FORM = "module:name, for example app.main:gateway"


class LoadError(Exception):
    """There is no such gateway. The text is for the user."""


def load_gateway(target: str) -> Gateway:
    """Import the module and return its gateway. Modules of the working directory are found, too.

    Raises `LoadError`.
    """
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise LoadError(f'"{target}" names no gateway; write {FORM}')
    module = _import(name)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Gateway):
        return found
    there = [each for each, value in vars(module).items() if isinstance(value, Gateway)]
    advice = f"; it has {', '.join(there)}" if there else f"; write {FORM}"
    what = "has no" if found is None else f"has {type(found).__name__}, not a Gateway, as"
    raise LoadError(f"{name} {what} {attribute}{advice}")


def load_contract(target: str) -> Contract:
    """The contract of that gateway. Raises `LoadError`."""
    gateway = load_gateway(target)
    return contract_of(gateway._program, gateway.settings)


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as uvicorn does it
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise LoadError(f"there is no module {name} in {here} or the environment; write {FORM}") from error
        raise LoadError(f"{name} cannot be imported: {error}") from error
    except Exception as error:
        raise LoadError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
