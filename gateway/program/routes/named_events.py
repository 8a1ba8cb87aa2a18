"""Named events of a channel: the name tells which handler decides, and of what type the data is.

They come in an envelope, ``{"event": "typing", "data": {...}}``. Where the channel's ``message`` is a union of models
with a discriminator, that field is the name, and the data is the whole.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol

import msgspec
from fastapi.params import Depends
from msgspec import Raw
from pydantic import TypeAdapter
from typing_extensions import TypeVar

from gateway.errors import Error, ErrorCode, SettingsError
from gateway.messages import NO_PAYLOAD, Payload
from gateway.program.encoding import encode_data
from gateway.program.routes.handlers import Answering
from gateway.program.routes.publishing import PublishHandler
from gateway.program.routes.returns import Handled, Message
from gateway.program.routes.signatures import place_of
from gateway.program.typed import PLAIN, Decode, decoding

F = TypeVar("F", bound=Callable[..., Any])

Named = TypeVar("Named", default=Any)
"""What an event holds."""

Schema = dict[str, Any]

ENVELOPE = "event"
"""The field of an envelope that names the event, unless the channel says otherwise."""

DATA = "data"

_NOTHING = Payload(b"null")

_LONGEST_NAME = 50
"""Characters of an unknown name that are told back."""


class Format(Protocol):
    """How an event is written down."""

    @property
    def model(self) -> Any:
        """The type of all events; None where each has its own."""

    def split(self, publication: bytes) -> tuple[str, bytes]:
        """Name and data. Raises ``Error`` (107) for what is no event."""

    def join(self, name: str, data: Payload) -> Payload: ...

    def schema(self, name: str, data: Schema, required: bool) -> Schema: ...


class Envelope:
    """``{"event": name, "data": …}``. An event may come without data."""

    model = None

    def __init__(self, key: str) -> None:
        if key == DATA:
            raise SettingsError(f'discriminator="{DATA}" is where the data is; write for example discriminator="type"')
        self._key = key
        self._read = _reader(key, DATA)

    def split(self, publication: bytes) -> tuple[str, bytes]:
        read = self._read(publication)
        return read.name, bytes(read.data)

    def join(self, name: str, data: Payload) -> Payload:
        return encode_data({self._key: name, DATA: data})

    def schema(self, name: str, data: Schema, required: bool) -> Schema:
        properties = {self._key: {"const": name}, DATA: data}
        return {"type": "object", "properties": properties, "required": [self._key, DATA] if required else [self._key]}


class Tagged:
    """The model itself, of which one field is the name."""

    def __init__(self, model: Any, key: str, names: Iterable[str]) -> None:
        self.model = model
        self.names = list(names)
        self._key = key
        self._read = _reader(key)

    def split(self, publication: bytes) -> tuple[str, bytes]:
        return self._read(publication).name, publication

    def join(self, name: str, data: Payload) -> Payload:
        return encode_data({self._key: name}) if data == _NOTHING else data

    def schema(self, name: str, data: Schema, required: bool) -> Schema:
        return data


def format_of(message: Any, discriminator: str) -> Format:
    """How a channel's events are written down. Raises `SettingsError` for a message of which there are no events."""
    if message is None:
        return Envelope(discriminator or ENVELOPE)
    told = TypeAdapter(message).json_schema().get("discriminator", {})
    if "mapping" not in told or discriminator:
        raise SettingsError(
            "events have types of their own: leave out message=, or make it a union with a discriminator, such as "
            'Annotated[Move | Chat, Field(discriminator="kind")], and leave out discriminator='
        )
    return Tagged(message, told["propertyName"], told["mapping"])


class NamedEvent:
    """One event of one route."""

    def __init__(self, name: str, model: Any, written: Format, dependencies: Sequence[Depends]) -> None:
        self.name = name
        self.dependencies = dependencies
        """What runs before the handler."""
        self._format = written
        self.model = model
        """The type of what is published, if the handler does not tell."""
        self.handler: PublishHandler | None = None
        """Decides what is published for what clients send; without, the program alone publishes it."""
        self.answering = None if model is None else Answering(model, read=lambda _: model)

    def handle(self, handler: PublishHandler) -> None:
        """Raises `SettingsError` if there is a handler."""
        if self.handler is not None:
            raise SettingsError(f'the event "{self.name}" has its handler already: {place_of(self.handler.call)}')
        self.handler = handler
        self.answering = self.answering or handler.answering()

    def encode(self, value: Any) -> Payload:
        return self._format.join(self.name, self.answering.encode(value) if self.answering else encode_data(value))

    def written(self, returned: Any) -> Any:
        """What a handler has returned, as it is to be published."""
        match returned:
            case False | Handled.HANDLED:
                return returned
            case None | True:
                return self._format.join(self.name, _NOTHING)
            case Message():
                return replace(returned, data=self.encode(returned.data))
        return self.encode(returned)

    def schema(self, data: Schema, required: bool = True) -> Schema:
        """Of the whole publication."""
        return self._format.schema(self.name, data, required)

    @property
    def receives(self) -> Any:
        """The type of what is published; None if nobody has said."""
        said = self.answering.type if self.answering else None
        return self.handler.takes if said is None and self.handler else said


class NamedEvents:
    """The events of one route, by name."""

    def __init__(self, channel: str, written: Format) -> None:
        self.format = written
        self._channel = channel
        self._events: dict[str, NamedEvent] = {}
        self._decoders: dict[str, Decode] = {}

    def __iter__(self) -> Iterator[NamedEvent]:
        return iter(self._events.values())

    def __getitem__(self, name: str) -> NamedEvent:
        """Raises ``LookupError``, for the program to read."""
        if name not in self._events:
            raise LookupError(f'"{self._channel}" has no event "{name}"; there are {", ".join(self._events)}')
        return self._events[name]

    def add(self, name: str, model: Any, dependencies: Sequence[Depends] = ()) -> None:
        """Declare an event. Raises `SettingsError` for one that there is, or that there cannot be."""
        if name in self._events:
            raise SettingsError(f'"{self._channel}" has its event "{name}" already')
        if isinstance(self.format, Tagged) and name not in self.format.names:
            there = ", ".join(self.format.names)
            raise SettingsError(f'"{self._channel}" has no event "{name}" in its message=; there are {there}')
        self._events[name] = NamedEvent(name, model or self.format.model, self.format, dependencies)

    def find(self, publication: bytes) -> tuple[NamedEvent, PublishHandler, bytes]:
        """What a client sends: the event, its handler, its data. Raises ``Error`` (107) for what it may not send."""
        name, data = self.format.split(publication)
        event = self._events.get(name)
        if event is None or event.handler is None:
            there = ", ".join(each.name for each in self if each.handler)
            name = name[:_LONGEST_NAME]
            raise Error(ErrorCode.BAD_REQUEST, f'bad request: unknown event "{name}"; there are {there}')
        return event, event.handler, data

    def encode(self, name: str, value: Any) -> Payload:
        """What the program publishes. Raises ``LookupError``, and what its type has against the value."""
        return self[name].encode(value)

    def name(self, publication: bytes) -> str:
        """The name of the event that was published; empty for what is none."""
        try:
            return self.format.split(publication)[0]
        except Error:
            return ""

    def decode(self, publication: bytes) -> Any:
        """The data of the event that was published, of its type; as plain JSON for what is no event."""
        event = self._events.get(self.name(publication))
        if event is None:
            return PLAIN(publication)
        if event.name not in self._decoders:
            self._decoders[event.name] = decoding(event.receives)
        return self._decoders[event.name](self.format.split(publication)[1] or b"null")


def _reader(key: str, *more: str) -> Callable[[bytes], Any]:
    """Reads the name, and perhaps the data, of a publication. Raises ``Error`` (107)."""
    fields: list[Any] = [("name", str), *((each, Raw, NO_PAYLOAD) for each in more)]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Named", fields, rename={"name": key}))
    example = ", ".join(f'"{each}": …' for each in (key, *more))

    def read(publication: bytes) -> Any:
        try:
            return decoder.decode(publication)
        except (msgspec.MsgspecError, RecursionError):
            raise Error(ErrorCode.BAD_REQUEST, f"bad request: an event is wanted, {{{example}}}") from None

    return read


class ChannelEvent(Generic[Named]):
    """An event of a channel. Made by `ChannelRoute.event`; as a decorator, it takes the handler."""

    def __init__(self, name: str, declare: Callable[[Callable[..., Any]], None]) -> None:
        """Raises ``TypeError`` for the handler in place of the name, as a decorator without one would have it."""
        if callable(name) or not name:
            raise TypeError(f'an event has a name: write @channel.event("typing"), not event({name!r})')
        self.name = name
        self._declare = declare

    def __call__(self, call: F) -> F:
        """Decide what is published when a client sends this event, as ``on_publish`` does for what has no name."""
        self._declare(call)
        return call
