"""The Centrifuge protocol in JSON: one object a line, many lines a frame.

Source: Centrifuge client protocol v2, "Two encodings" and "Messages".
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from msgspec import DecodeError, Raw, Struct, ValidationError, defstruct
from msgspec.json import Decoder, Encoder
from msgspec.structs import replace

from gateway.errors import LONGEST_REASON, Disconnect, DisconnectCode, Error
from gateway.messages import (
    NO_PAYLOAD,
    Command,
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    HistoryResult,
    Join,
    Leave,
    Payload,
    PingRequest,
    Pong,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    Push,
    Quoted,
    Refresh,
    RefreshRequest,
    RefreshResult,
    Request,
    Result,
    RPCRequest,
    RPCResult,
    SendRequest,
    SubRefreshRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeRequest,
    UnsubscribeResult,
    is_opaque,
)
from gateway.protocols.base import OBJECTS_AT_FIRST, PushForms
from gateway.protocols.nulls import without_nulls
from gateway.protocols.protobuf import ENDLESS

_PONG = Command(0, Pong())
_NEWLINE = ord("\n")


class Envelope(Struct):
    """A command as it stands on the wire. If several bodies are set, the first in this order counts."""

    id: int = 0
    connect: ConnectRequest | None = None
    ping: PingRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    rpc: RPCRequest | None = None
    send: SendRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    def command(self) -> Command:
        """The same without what is around it. Raises ``Disconnect`` (bad request) if nothing known is asked for."""
        request: Request | None = (
            self.connect
            or self.ping
            or self.subscribe
            or self.unsubscribe
            or self.publish
            or self.presence
            or self.presence_stats
            or self.history
            or self.rpc
            or self.send
            or self.refresh
            or self.sub_refresh
        )
        if self.id == 0 and type(request) is not SendRequest:
            return _PONG
        if request is None or not 0 <= self.id <= 0xFFFFFFFF:
            raise Disconnect(DisconnectCode.BAD_REQUEST)
        return Command(self.id, request)


_RESULT_KEYS: dict[type[Any], str] = {
    ConnectResult: "connect",
    SubscribeResult: "subscribe",
    UnsubscribeResult: "unsubscribe",
    PublishResult: "publish",
    PresenceResult: "presence",
    PresenceStatsResult: "presence_stats",
    HistoryResult: "history",
    RPCResult: "rpc",
    RefreshResult: "refresh",
    SubRefreshResult: "sub_refresh",
}
_REPLIES = {kind: defstruct(f"{kind.__name__}Reply", [("id", int), (key, Any)]) for kind, key in _RESULT_KEYS.items()}
"""How a result is written as a whole, at one go."""
_WITH_PUBLICATIONS = frozenset({SubscribeResult, ConnectResult, HistoryResult, SubRefreshResult})
_PUSH_KEYS = PushForms[bytes](
    {
        Join: b"join",
        Leave: b"leave",
        Unsubscribe: b"unsubscribe",
        Subscribe: b"subscribe",
        Refresh: b"refresh",
    }
)


def _one_line(payload: bytes) -> bytes:
    """The same JSON without line breaks, which separate messages here."""
    # by its number, which is what `in` looks for first in bytes: else it raises and forgets an error each time
    return payload.replace(b"\n", b"") if _NEWLINE in payload else payload


class WirePublication(Struct, omit_defaults=True):
    """A publication as clients see it: without the fields that are between nodes."""

    data: Raw
    info: Any = None
    offset: int = 0
    tags: dict[str, str] | None = None
    epoch: str = ""


class _Varied(WirePublication, omit_defaults=True):
    """One with fields that few have: each takes its time for all that have them."""

    delta: bool = False
    version: int = 0


class _Keyed(Struct, omit_defaults=True):
    """An entry or a change of a map, which may have no data."""

    data: Raw = NO_PAYLOAD
    info: Any = None
    offset: int = 0
    tags: dict[str, str] | None = None
    epoch: str = ""
    delta: bool = False
    key: str = ""
    removed: bool = False
    version: int = 0


def wire_publication(publication: Publication) -> "WirePublication | _Keyed":
    if publication.binary:
        raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
    if publication.key:
        return _keyed(publication)
    data = publication.data
    shown = WirePublication(
        Raw(_one_line(data) or b"null"),
        publication.info,
        publication.offset,
        publication.tags or None,
        # a client that subscribed before the stream existed learns its epoch from the first publication
        publication.epoch if publication.offset == 1 else "",
    )
    return _varied(publication, shown) if publication.version or type(data) is Quoted else shown


def _varied(publication: Publication, shown: WirePublication) -> WirePublication:
    """What few publications have: a version, or the form that goes with delta."""
    data = publication.data
    return _Varied(
        data=Raw(encode(data.decode() or "null")) if type(data) is Quoted else shown.data,
        info=shown.info,
        offset=shown.offset,
        tags=shown.tags,
        epoch=shown.epoch,
        delta=publication.delta,
        version=publication.version,
    )


def _keyed(publication: Publication) -> _Keyed:
    data = publication.data
    if type(data) is Quoted:
        # the text of some JSON also where there is none, or the JavaScript SDK fails to read it, and all that follows
        shown = Raw(encode(data.decode() or "null"))
    else:
        shown = Raw(_one_line(data)) if data else NO_PAYLOAD
    return _Keyed(
        data=shown,
        info=publication.info,
        offset=publication.offset,
        tags=publication.tags or None,
        epoch=publication.epoch if publication.offset == 1 else "",
        delta=publication.delta,
        key=publication.key,
        removed=publication.removed,
        version=publication.version,
    )


def _raw(value: Any) -> Any:
    if type(value) is Payload:
        return Raw(_one_line(value)) if value and not is_opaque(value) else None
    raise TypeError(f"{type(value).__name__} does not go on the wire")


encode = Encoder(enc_hook=_raw).encode


def encode_result(result: Result) -> bytes:
    """A result under its name, without what a reply puts around it."""
    return b'"%b":%b' % (_RESULT_KEYS[type(result)].encode(), encode(_shown(result)))


def encode_push(channel: str, push: Push) -> bytes:
    """A push without its envelope. Raises ``Disconnect`` (inappropriate protocol) for what has no form here."""
    if type(push) is Publication:
        publication = wire_publication(push)
        if not channel:
            return b'{"message":{"data":%b}}' % bytes(publication.data)
        return b'{"channel":%b,"pub":%b}' % (encode(channel), encode(publication))
    body = b'"%b":%b' % (_PUSH_KEYS[type(push)], encode(push))
    return b"{%b%b}" % (b'"channel":%b,' % encode(channel) if channel else b"", body)


def encode_disconnect(reason: Disconnect) -> bytes:
    """The last push, where the transport itself cannot say why it ends, without its envelope."""
    return b'{"disconnect":{"code":%d,"reason":%b}}' % (reason.code, encode(reason.reason))


def _shown(result: Result) -> Result:
    """The same with publications as clients see them."""
    if type(result) not in _WITH_PUBLICATIONS:  # each case below that does not fit takes its time
        return result
    match result:
        case SubscribeResult() if result.publications or result.state:
            return replace(result, publications=_wired(result.publications), state=_wired(result.state))
        case ConnectResult() if result.subs:
            return replace(result, subs={name: _shown(sub) for name, sub in result.subs.items()})
        case HistoryResult():
            return replace(result, publications=_wired(result.publications))
        case SubRefreshResult() if result.items:
            return replace(result, items=_wired(result.items))
    return result


def _wired(publications: list[Publication]) -> "list[WirePublication | _Keyed]":
    return [wire_publication(each) for each in publications]


UNREADABLE = UnicodeDecodeError, DecodeError, RecursionError
"""How reading JSON fails."""


def unreadable(error: Exception) -> Disconnect:
    """A bad request, and which field is not what it should be: a page sees no more than this."""
    told = f"bad request: {error}"[:LONGEST_REASON] if isinstance(error, ValidationError) else None
    return Disconnect(DisconnectCode.BAD_REQUEST, told)


_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def without_lone_surrogates(line: bytes) -> bytes:
    """JSON in which half a character, as a browser makes by cutting an emoji in two, is U+FFFD.

    RFC 8259, section 8.2, leaves such strings to the receiver; ours would refuse them, with the connection.
    """
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], line) if b"\\" in line else line


def check_first(frame: bytes) -> None:
    """Raises ``Disconnect`` (bad request) for what is too much to be read for a client that has not been let in."""
    if frame.count(b"{") > OBJECTS_AT_FIRST:
        raise Disconnect(DisconnectCode.BAD_REQUEST)


def mended(line: bytes, kind: Any, budget: Iterator[object] = ENDLESS) -> bytes:
    """What may be read where the line as it is cannot."""
    return without_nulls(without_lone_surrogates(line), kind, budget)


def budget_of_mending(frame: bytes, *, admitted: bool) -> Iterator[object]:
    """What mending a frame may spend, an item a line beside. It, or its end, raises ``Disconnect`` (bad request)."""
    if admitted:
        return ENDLESS
    if frame.count(b"\\") > OBJECTS_AT_FIRST:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    return _limited(OBJECTS_AT_FIRST // 4)  # each takes several times as long as a thing to be read


def _limited(most: int) -> Iterator[object]:
    yield from range(most)
    raise Disconnect(DisconnectCode.BAD_REQUEST)


class CentrifugeJson:
    """Centrifuge JSON. Holds no state: one instance serves every connection."""

    name: ClassVar[str] = "centrifuge-json"
    binary: ClassVar[bool] = False
    ping: ClassVar[bytes] = b"{}"
    pong: ClassVar[bytes] = b"{}"
    unidirectional: ClassVar[bool] = False
    omits: ClassVar[bool] = False

    def __init__(self) -> None:
        self._decode = Decoder(Envelope).decode

    def decode(self, frame: bytes, *, admitted: bool = True) -> list[Command]:
        """The commands of one frame. Raises ``Disconnect`` (bad request) if any line is not a command."""
        if not admitted:
            check_first(frame)
        try:
            if not frame.isascii():
                frame.decode()  # payloads are passed on unread, so nobody later would find a broken character
            lines = frame.removesuffix(b"\n").split(b"\n") if _NEWLINE in frame else [frame]
            try:
                if len(lines) == 1:
                    return [self._decode(lines[0]).command()]
                return [_PONG if line == b"{}" else self._decode(line).command() for line in lines]
            except DecodeError:
                budget = budget_of_mending(frame, admitted=admitted)
                mending = zip(lines, budget, strict=False)
                return [self._decode(mended(line, Envelope, budget)).command() for line, _ in mending]
        except UNREADABLE as error:
            raise unreadable(error) from error

    def encode_result(self, command_id: int, result: Result) -> bytes:
        if type(result) is PublishResult:  # as below, at a fraction of the time
            return b'{"id":%d,"publish":{}}' % command_id
        return encode(_REPLIES[type(result)](command_id, _shown(result)))

    def encode_error(self, command_id: int, error: Error) -> bytes:
        temporary = b',"temporary":true' if error.temporary else b""
        return b'{"id":%d,"error":{"code":%d,"message":%b%b}}' % (
            command_id,
            error.code,
            encode(error.message),
            temporary,
        )

    @property
    def compact(self) -> "CentrifugeJson":
        return _COMPACT

    def encode_push(self, channel: str, push: Push) -> bytes:
        if type(push) is Publication and channel:  # as below, without building it twice
            return b'{"push":{"channel":%b,"pub":%b}}' % (encode(channel), encode(wire_publication(push)))
        return b'{"push":%b}' % encode_push(channel, push)

    def encode_disconnect(self, reason: Disconnect) -> bytes:
        return b'{"push":%b}' % encode_disconnect(reason)

    def join(self, messages: Sequence[bytes]) -> bytes:
        return messages[0] if len(messages) == 1 else b"\n".join(messages)


class CompactCentrifugeJson(CentrifugeJson):
    """The same for publications, joins and leaves in channels that clients know by number.

    Source: Centrifuge client protocol v2, "Channel compaction".
    """

    def encode_push(self, channel: str, push: Push) -> bytes:
        name, body = (b"pub", wire_publication(push)) if type(push) is Publication else (_PUSH_KEYS[type(push)], push)
        return b'{"push":{"id":%b,"%b":%b}}' % (channel.encode(), name, encode(body))


_COMPACT = CompactCentrifugeJson()
