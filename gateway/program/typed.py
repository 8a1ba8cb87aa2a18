"""Publications and members as the program reads them: values of the declared types, made when asked for, and bytes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, cast

import msgspec
from pydantic import TypeAdapter
from typing_extensions import TypeVar

from gateway import messages

T = TypeVar("T", default=Any)
"""What a channel's publications hold."""

Conn = TypeVar("Conn", default=Any)
Chan = TypeVar("Chan", default=Any)

Decode = Callable[[bytes], Any]
"""Makes a value of JSON. Raises what pydantic or msgspec raise."""

PLAIN: Decode = msgspec.json.decode


def decoding(kind: Any) -> Decode:
    """Decodes into a type; into what JSON has, if there is none."""
    return PLAIN if kind is None else TypeAdapter(kind).validate_json


class Types(msgspec.Struct, frozen=True):
    """How what a channel holds is decoded."""

    data: Decode = PLAIN
    conn_info: Decode = PLAIN
    chan_info: Decode = PLAIN
    event: Callable[[bytes], str] = lambda _: ""
    """The name that a publication has."""


UNTYPED = Types()


class ClientInfo(Generic[Conn, Chan]):
    """Who is subscribed, or has published ::

        members: dict[str, ClientInfo[Profile, Seat]] = await gateway.presence("table:7")

    ``conn_info`` is what `Credentials` say of the client, ``chan_info`` what its `Grant` says, of the types that
    ``on_connect -> Credentials[Profile]`` and ``on_subscribe -> Grant[Seat]`` declare. Each is None where nothing was
    said: annotate it ``Seat | None`` if that may be. They are decoded when read, and raise
    ``pydantic.ValidationError`` for what is not of that type, as a token may have it.
    """

    def __init__(self, message: messages.ClientInfo, types: Types = UNTYPED) -> None:
        self.user = message.user
        """The user's id; empty for an anonymous client."""
        self.client = message.client
        """The connection's id."""
        self.raw_conn_info: bytes | None = _raw(message.conn_info)
        """The JSON itself."""
        self.raw_chan_info: bytes | None = _raw(message.chan_info)
        self._message = message
        self._types = types

    @cached_property
    def conn_info(self) -> Conn:
        return cast(Conn, decoded(self._types.conn_info, self._message.conn_info))

    @cached_property
    def chan_info(self) -> Chan:
        return cast(Chan, decoded(self._types.chan_info, self._message.chan_info))

    def __repr__(self) -> str:
        return f"<ClientInfo {self.client} user={self.user!r}>"


class Publication(Generic[T]):
    """What was published, of the type that the channel declares: ``gateway.channel(pattern, message=ChatMessage)``."""

    def __init__(self, message: messages.Publication, types: Types = UNTYPED) -> None:
        self.raw: bytes = message.data
        """The data as it was published: JSON, unless it is ``binary``."""
        self.binary = message.binary
        self.offset = message.offset
        """Its place in the channel's stream; 0 where the channel keeps no history."""
        self.epoch = message.epoch
        """Of the stream; empty in what comes from ``history``, which tells it once."""
        self.key = message.key
        """In a map, whose value it is; else empty."""
        self.removed = message.removed
        """In a map, that its key has none any more: there is no data."""
        self.tags = message.tags or {}
        self.time = message.time
        """When it was published (Unix ms); 0 if nobody has noted it."""
        self.info: ClientInfo | None = ClientInfo(message.info, types) if message.info else None
        """The client that has published it; None for the server."""
        self._types = types

    @cached_property
    def data(self) -> T:
        """The value, decoded when first read; ``raw`` if it is binary. Of no declared type, it is what JSON has.

        Raises ``pydantic.ValidationError`` for what is not of the type: whoever publishes by another way than the
        handlers may publish anything. The end of a stream is null.
        """
        if self.removed:
            return cast(T, None)
        return cast(T, self.raw if self.binary else self._types.data(self.raw))

    @property
    def event(self) -> str:
        """The name of the event that it is; empty where the channel has none."""
        return self._types.event(self.raw)

    def __repr__(self) -> str:
        return f"<Publication {self.offset} {self.raw[:80]!r}>"


def decoded(decode: Decode, info: messages.Payload | None) -> Any:
    """What a client's info says; the bytes themselves of one that is no JSON, as a token may have it."""
    if info is None:
        return None
    return messages.revealed(info) if messages.is_opaque(info) else decode(info)


def _raw(info: messages.Payload | None) -> bytes | None:
    return None if info is None else messages.revealed(info)
