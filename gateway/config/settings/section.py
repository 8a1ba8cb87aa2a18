"""What every section of the settings is."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

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
