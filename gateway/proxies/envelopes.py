"""What a backend is asked, and what it answers, as they stand in HTTP bodies.

What is left out of an answer, and what is ``null``, is at its default. Unknown fields are passed over.
"""

import base64
import binascii
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.auth.permissions import is_json
from gateway.auth.tokens import Grant, Override
from gateway.errors import LONGEST_REASON, Disconnect, DisconnectCode, Error, ErrorCode
from gateway.maps.base import KeyMode
from gateway.messages import Payload
from gateway.proxies.failures import Failure

R = TypeVar("R")

_LATEST = 2**32 - 1
"""Expiry is held to this (the year 2106), since time to live is a 32-bit number on the wire."""

# — what is asked —


class Connection(Struct, omit_defaults=True, kw_only=True):
    """Which client it is about, and how it is connected. Where ``encoding`` is ``binary``, data is in ``b64data``."""

    client: str
    transport: str
    protocol: str
    encoding: str


class User(Connection, kw_only=True):
    """The same of a client that has been let in."""

    user: str
    meta: Raw | None = None


class ConnectAsked(Connection, kw_only=True):
    data: Raw | None = None
    b64data: str = ""
    name: str = ""
    version: str = ""
    channels: list[str] | None = None


class RefreshAsked(User, kw_only=True):
    pass


class SubscribeAsked(User, kw_only=True):
    channel: str
    token: str = ""
    data: Raw | None = None
    b64data: str = ""


class PublishAsked(User, kw_only=True):
    channel: str
    data: Raw | None = None
    b64data: str = ""


class MapPublishAsked(PublishAsked, kw_only=True):
    key: str


class MapRemoveAsked(User, kw_only=True):
    channel: str
    key: str


class SubRefreshAsked(User, kw_only=True):
    channel: str


class RPCAsked(User, kw_only=True):
    method: str
    data: Raw | None = None
    b64data: str = ""


class CacheEmptyAsked(Struct):
    """A channel has nothing for whoever subscribes; who that is makes no difference."""

    channel: str


class PolledKey(Struct, omit_defaults=True):
    key: str
    version: int = 0


class PollAsked(Struct):
    """What these keys have, of which the versions are known."""

    channel: str
    items: list[PolledKey]


# — what is answered —

Moment = Annotated[float, Meta(ge=0)] | None
"""Unix seconds."""
Code = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class ErrorAnswer(Struct):
    code: Code = 0
    message: str | None = None
    temporary: bool | None = None


class DisconnectAnswer(Struct):
    code: Code = 0
    reason: str | None = None


class Flag(Struct):
    value: bool = False


class OverrideAnswer(Struct):
    presence: Flag | None = None
    join_leave: Flag | None = None
    force_push_join_leave: Flag | None = None
    force_recovery: Flag | None = None
    force_positioning: Flag | None = None


class GrantAnswer(Struct):
    """What a subscription has."""

    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    override: OverrideAnswer | None = None
    expire_at: Moment = None
    cache_recover: bool | None = None

    def grant(self, replay: bool | None = None) -> Grant:
        told = msgspec.structs.asdict(self.override) if self.override is not None else {}
        override = Override(**{name: flag and flag.value for name, flag in told.items()}, replay=replay)
        return Grant(payload(self.info, self.b64info), payload(self.data, self.b64data), override)


class ConnectAnswer(Struct):
    user: str | None = None
    expire_at: Moment = None
    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    channels: list[str] | None = None
    subs: dict[str, GrantAnswer | None] | None = None
    meta: Raw = Raw()


class RenewalAnswer(Struct):
    """That of refresh and of sub_refresh, which has no ``meta``."""

    expired: bool | None = None
    expire_at: Moment = None
    info: Raw = Raw()
    b64info: str | None = None
    meta: Raw = Raw()


class PublishAnswer(Struct):
    data: Raw = Raw()
    b64data: str | None = None
    skip_history: bool | None = None
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None
    delta: bool | None = None
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    version_epoch: str | None = None


class MapPublishAnswer(Struct):
    key: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    tags: dict[str, str] | None = None
    key_mode: KeyMode | None = None
    idempotency_key: str | None = None
    delta: bool | None = None
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    version_epoch: str | None = None


class MapRemoveAnswer(Struct):
    """A removal has the tags of what is removed, so that none are wanted."""

    key: str | None = None
    idempotency_key: str | None = None


class DataAnswer(Struct):
    """That of rpc, and of cache_empty; ``populated`` says that the backend has published something by itself."""

    data: Raw = Raw()
    b64data: str | None = None
    populated: bool | None = None


class PolledValue(Struct):
    key: str
    data: Raw = Raw()
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    removed: bool | None = None
    prev_data: Raw = Raw()


class PollAnswer(Struct):
    items: list[PolledValue] | None = None
    epoch: str | None = None


class Envelope(Struct, Generic[R]):
    """What every answer is."""

    result: R | None = None
    error: ErrorAnswer | None = None
    disconnect: DisconnectAnswer | None = None

    def open(self) -> R | None:
        """The result, if there is one. Raises what it is instead; of several things the disconnect counts."""
        if self.disconnect is not None:
            raise closing(self.disconnect.code, self.disconnect.reason or "")
        if self.error is not None:
            raise failing(self.error.code, self.error.message or "", bool(self.error.temporary))
        return self.result


class Question(Generic[R]):
    """An event: its name, and how its answers are read."""

    def __init__(self, event: str, answer: type[R]) -> None:
        self.event = event
        self._decoder: msgspec.json.Decoder[Envelope[R]] = msgspec.json.Decoder(Envelope[answer])  # type: ignore[valid-type]

    def read(self, body: bytes) -> R | None:
        """The result of an answer. Raises `Failure`, or what the answer is instead."""
        try:
            envelope = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Failure("answer", f"the answer cannot be read: {error}") from None
        return envelope.open()


CONNECT = Question("connect", ConnectAnswer)
REFRESH = Question("refresh", RenewalAnswer)
SUBSCRIBE = Question("subscribe", GrantAnswer)
PUBLISH = Question("publish", PublishAnswer)
MAP_PUBLISH = Question("map_publish", MapPublishAnswer)
MAP_REMOVE = Question("map_remove", MapRemoveAnswer)
SUB_REFRESH = Question("sub_refresh", RenewalAnswer)
CACHE_EMPTY = Question("cache_empty", DataAnswer)
SHARED_POLL_REFRESH = Question("shared_poll_refresh", PollAnswer)
RPC = Question("rpc", DataAnswer)


def closing(code: int, reason: str) -> Disconnect:
    """With a code that the SDKs know, and a reason that a close frame can carry."""
    known = code if 3000 <= code <= 4999 else DisconnectCode.INTERNAL
    return Disconnect(known, reason.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore"))


def failing(code: int, message: str, temporary: bool) -> Error:
    """As it is told; without a code it is that of a failure."""
    if not code:
        return Error(ErrorCode.INTERNAL, message)
    return Error(next((each for each in ErrorCode if each == code), code), message, temporary)


def moment(at: float | None) -> int:
    """In whole seconds; 0 is never."""
    return int(min(at or 0, _LATEST))


def content(plain: Raw, encoded: str | None) -> Payload | None:
    """Data as it stands there, or in base64; which may be any bytes, while JSON is brought on one line.

    Raises `Failure`.
    """
    data = bytes(plain)
    if encoded:
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise Failure("answer", "b64data or b64info is not base64") from None
    if data in (b"", b"null"):
        return None
    return Payload(msgspec.json.format(data, indent=-1) if is_json(data) else data)


def payload(plain: Raw, encoded: str | None) -> Payload | None:
    """The same, where only JSON will do."""
    data = content(plain, encoded)
    if data is not None and not is_json(data):
        raise Failure("answer", "info and data must be valid JSON, in base64 too")
    return data


def an_object(plain: Raw) -> Payload | None:
    """The same of ``meta``."""
    found = payload(plain, None)
    if found is not None and not found.startswith(b"{"):
        raise Failure("answer", "meta must be an object")
    return found
