"""Durations as people write them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> Any:
    """Seconds from ``"10s"``, ``"300ms"``, ``"1h30m"`` or a number of seconds."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(rf"({_DURATION.pattern})+", text):
        raise ValueError('must be a duration such as "10s", "300ms", "1h30m" or a number of seconds')
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


Duration = Annotated[
    float, BeforeValidator(parse_duration, json_schema_input_type=float | str), Field(ge=0, allow_inf_nan=False)
]
"""Seconds, as ``"10s"``, ``"300ms"`` or a number."""
