"""Settings of the log."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from gateway.config.settings.section import Section

_OTHER_NAMES = {"trace": "debug", "warn": "warning", "fatal": "error"}
"""Levels of Centrifugo, whose files load."""


def _level(value: Any) -> Any:
    return _OTHER_NAMES.get(value.lower(), value.lower()) if isinstance(value, str) else value


class LogSettings(Section):
    """The log of `gateway serve`, on standard error. A program sets logging up itself; `access` is for it, too."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_level)] = "info"
    """The least that is told."""
    format: Literal["text", "json"] = "text"
    """`json` writes an object on each line."""
    access: bool = False
    """A line for each connection that begins and ends, and for each HTTP request, without its query."""
