"""Patterns of channel names, written as FastAPI writes paths: ``chat:{room}``, ``orders:{id:int}``."""

import re
from collections.abc import Callable, Mapping

from starlette.convertors import CONVERTOR_TYPES

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_]+))?")

_HOLDS = {"str": "[^:/]", "int": "[0-9]", "float": "[0-9.]", "uuid": "(?!)"}
"""What a parameter of a type may hold; any other may hold anything."""

_ANYTHING = ("", "‽:/‽")

_EXTREMES = {
    "str": ("‽", "‽‽‽"),
    "int": ("7", "70717273"),
    "float": ("7", "7071.7273"),
    "uuid": ("70717273-7475-4677-8879-808182838485", "90919293-9495-4697-9899-a0a1a2a3a4a5"),
}
"""What a parameter of a type may hold that nobody writes in a pattern; one of any other type may hold anything."""

_TEXT = "[^:/]+"
"""A parameter without type: up to the next ``:`` or ``/``, as FastAPI's ends at the next ``/``."""


class Pattern:
    """A pattern, compiled once. Raises ``ValueError`` for one that cannot be read.

    Types are Starlette's: ``str`` (the default), ``int``, ``float``, ``uuid`` and ``path``, which takes anything.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        """Types by parameter."""
        if not text:
            raise ValueError('a channel pattern must not be empty, for example "chat:{room}"')
        if re.search("[{}]", _PARAMETER.sub("", text)):
            raise ValueError(f'braces do not match in the pattern "{text}"; a parameter is written {{room}}')
        # split() gives text and parameters in turn
        parts = _PARAMETER.split(text)
        expression = "".join(self._parameter(each) if odd % 2 else re.escape(each) for odd, each in enumerate(parts))
        if self._blurred(parts[2::2]) > 1:
            raise ValueError(
                f'in "{text}" it is not clear where a parameter ends, at two places and more: names that do not match '
                'would take long to refuse; put ":" or "/" between them, or give types, as in {year:int}-{month:int}'
            )
        self.shape = self._fill("{{{}}}".format)
        """The text with types alone: patterns of one shape match the same names."""
        self.expression = expression
        self._match = re.compile(expression).fullmatch

    def match(self, name: str) -> Mapping[str, str] | None:
        """The parameters in a name, as text; None if the name is another's."""
        found = self._match(name)
        return found.groupdict() if found else None

    def format(self, **params: object) -> str:
        """The name with these parameters. Raises ``ValueError`` for one that the pattern would not match."""
        if params.keys() != self.types.keys():
            raise ValueError(f'"{self.text}" takes {", ".join(self.types) or "no parameters"}')
        name = _PARAMETER.sub(lambda found: str(params[found[1].partition(":")[0]]), self.text)
        if self.match(name) is None:
            raise ValueError(f'"{name}" is not a channel of the pattern "{self.text}"')
        return name

    def extremes(self) -> tuple[str, str]:
        """Two names, short and long: a pattern that matches both matches all of this one's."""
        held = {kind: _EXTREMES.get(kind, _ANYTHING) for kind in self.types.values()}
        return self._fill(lambda kind: held[kind][0]), self._fill(lambda kind: held[kind][1])

    def _fill(self, write: Callable[[str], str]) -> str:
        """The text with something in place of each parameter, by its type."""
        kinds = iter(self.types.values())
        return _PARAMETER.sub(lambda _: write(next(kinds)), self.text)

    def _blurred(self, behind: list[str]) -> int:
        """Parameters that could go on where the next one begins. Each takes a name's length times as long to match."""
        between = list(zip(self.types.values(), behind, strict=True))[:-1]
        return sum(not text or bool(re.match(_HOLDS.get(kind, ""), text)) for kind, text in between)

    def _parameter(self, text: str) -> str:
        found = _NAME.fullmatch(text)
        if not found:
            raise ValueError(f'"{{{text}}}" in "{self.text}" is no parameter; write {{room}} or {{id:int}}')
        name, kind = found[1], found[2] or "str"
        if name in self.types:
            raise ValueError(f'the parameter "{name}" stands twice in "{self.text}"')
        if kind not in CONVERTOR_TYPES:
            known = ", ".join(sorted(CONVERTOR_TYPES))
            raise ValueError(f'"{kind}" in "{self.text}" is no type of a parameter; there are {known}')
        self.types[name] = kind
        return f"(?P<{name}>{_TEXT if kind == 'str' else CONVERTOR_TYPES[kind].regex})"
