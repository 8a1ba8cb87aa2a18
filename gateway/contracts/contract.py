"""The contract of a program, as documents and clients are generated from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi.security.base import SecurityBase

from gateway.config.settings import ChannelOptions
from gateway.contracts.schemas import Schema

PATH = "/connection/websocket"


@dataclass(frozen=True, slots=True)
class Data:
    """What a client sends along."""

    schema: Schema
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelContract:
    """The channels of one route."""

    name: str
    """An identifier that no other channel or procedure has."""
    pattern: str
    parameters: Mapping[str, str]
    """Types by parameter, as the pattern writes them."""
    options: ChannelOptions
    descriptions: Mapping[str, str]
    """What the handlers say of themselves, by event."""
    sends: Schema | None
    """What clients may publish; None if they may not."""
    receives: Schema
    """What subscribers receive."""
    joins_with: Data | None
    """What comes with a subscribe; None for nothing."""
    reads_presence: bool
    reads_history: bool

    @property
    def address(self) -> str:
        """The pattern without types: ``orders:{id}``."""
        text = self.pattern
        for name, kind in self.parameters.items():
            text = text.replace(f"{{{name}:{kind}}}", f"{{{name}}}")
        return text


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcedureContract:
    """What is answered to one call."""

    name: str
    """An identifier that no other channel or procedure has."""
    method: str
    description: str
    takes: Data | None
    returns: Schema | None
    """None for nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """All that clients need to know of a program."""

    title: str
    version: str
    host: str
    """Host and port at which it is served."""
    path: str = PATH
    secure: bool = False
    security: Mapping[str, SecurityBase | None]
    """How clients say who they are, by name; None for a token of which no more is known. Empty if they need not."""
    connects_with: Data | None
    channels: list[ChannelContract] = field(default_factory=list)
    procedures: list[ProcedureContract] = field(default_factory=list)
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    """What the schemas refer to."""
