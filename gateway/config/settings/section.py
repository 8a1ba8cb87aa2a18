"""What every section of the settings is."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.config.masking import without_secret


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """A repr ends up in logs and tracebacks, where no secret belongs."""
        for name, value in super().__repr_args__():
            yield name, without_secret(name or "", value)
