"""What every section of the settings is."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.config.masking import without_secret
from gateway.config.secrets import add_files, with_files_read


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: Any) -> Any:
        return with_files_read(values, cls.model_fields) if isinstance(values, Mapping) else values

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic has it, but for what has been decided of this object alone (``cached_property``)."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        add_files(handler.resolve_ref_schema(schema), cls.model_fields)
        return schema

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """A repr ends up in logs and tracebacks, where no secret belongs."""
        for name, value in super().__repr_args__():
            yield name, without_secret(name or "", value)


_Section = TypeVar("_Section", bound=Section)


class _Plain:
    """Has attributes, and is asked for them in the shortest way."""


def plain(section: _Section) -> _Section:
    """The same values for code that asks for them with every client: of a model, it takes ten times as long.

    (Its ``__getattr__`` is looked up each time.) Of the model's methods it has those that copy and show it.
    """
    model = type(section)
    decided = [name for name in dir(model) if isinstance(getattr(model, name, None), cached_property)]
    values = dict(section) | {name: getattr(section, name) for name in (*decided, "model_copy", "model_dump")}
    view: Any = _Plain()
    view.__dict__.update(values)
    return view  # type: ignore[no-any-return]
