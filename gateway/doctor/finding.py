"""What the doctor finds."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec
from msgspec import Struct


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    NOTE = "note"
    """Good to know, or not to be found out."""
    WARNING = "warning"
    """It works, and will not some day, or not well."""
    PROBLEM = "problem"
    """It does not work."""


_CODES = {Level.OK: 0, Level.NOTE: 0, Level.WARNING: 1, Level.PROBLEM: 2}


class Finding(Struct, frozen=True):
    """One thing that was looked at. ``remedy`` is what to do, empty where that is nothing."""

    level: Level
    about: str
    """What it is about, such as ``redis 127.0.0.1:6379``."""
    text: str
    remedy: str = ""


Findings = Iterable[Finding]


class About:
    """Makes findings about one thing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ok(self, text: str) -> Finding:
        return Finding(Level.OK, self.name, text)

    def note(self, text: str, remedy: str = "") -> Finding:
        return Finding(Level.NOTE, self.name, text, remedy)

    def warning(self, text: str, remedy: str) -> Finding:
        return Finding(Level.WARNING, self.name, text, remedy)

    def problem(self, text: str, remedy: str) -> Finding:
        return Finding(Level.PROBLEM, self.name, text, remedy)


def exit_code(findings: Findings) -> int:
    """0 if all is well, 1 if something should be otherwise, 2 if something does not work."""
    return max((_CODES[finding.level] for finding in findings), default=0)


def as_text(findings: Findings) -> str:
    """A line for each, with its remedy below."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level.upper():8} {finding.about}: {finding.text}")
        if finding.remedy:
            lines.append(f"{'':8} → {finding.remedy}")
    return "\n".join(lines)


def as_json(findings: Findings) -> str:
    """One object: ``status`` is ``ok``, ``warning`` or ``problem``, ``findings`` have ``level``, ``about``, …"""
    found = list(findings)
    status = ("ok", "warning", "problem")[exit_code(found)]
    return msgspec.json.encode({"status": status, "findings": found}).decode()
