"""The opening handshake: an upgrade request in, the HTTP response out. No network here.

Source: RFC 6455, section 4.2; RFC 9110 and 9112 for what is around it.
"""

import hashlib
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

HEAD_LIMIT = 65536
"""Most bytes of a request line and headers. Nginx allows 32 KiB, Node 16, httptools any number."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_TARGET = re.compile(rb"(?:(?i:https?)://[!-.0->@-~]+|(?=/))([!-~]*)")
"""A path with a query, which may have a scheme and a host before it (RFC 9112, section 3.2.2)."""
_VALUE = re.compile(rb"[\t -~\x80-\xff]*+")
_FIELDS = re.compile(rb"(?:%b:%b\r\n)*" % (_TOKEN.pattern, _VALUE.pattern))
_FIELD = re.compile(rb"([^:]+):([^\r]*)\r\n")

_USUAL_HEAD = re.compile(rb"GET (/[!-~]*+) HTTP/1\.1\r\n%b\r\n" % _FIELDS.pattern)
_HOST, _UPGRADE, _VERSION = b"host", b"upgrade: websocket", b"sec-websocket-version: 13"
_CONNECTION, _OF_FIREFOX = b"connection: upgrade", b"connection: keep-alive, upgrade"
_KEY, _BEFORE_KEY, _KEY_SIZE = b"sec-websocket-key: ", b"\r\nsec-websocket-key: ", 24
_NAMES = re.compile(
    rb"\r\n((?:%b)(?=\r\n)|%b(?=[+/0-9a-z]{22}==\r\n)|[^:\r]+)"
    % (b"|".join((_UPGRADE, _VERSION, _CONNECTION, _OF_FIREFOX)), _KEY)
)
"""Names of headers in lower case, with what they say where nearly every client says the same; a space stands behind
that of a key that is one.
"""
_ONLY_ONCE = frozenset((_HOST, _VERSION, _KEY))
_NEEDED = _ONLY_ONCE | {_UPGRADE}
_UNUSUAL = frozenset((b"sec-websocket-version", b"sec-websocket-key", b"content-length", b"transfer-encoding"))

_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)

BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})
"""What follows the head of such a response is read as the next one."""

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):  # noqa: N818  not an error of ours
    """A request that does not open a WebSocket. ``response`` is what the client is told."""

    def __init__(self, status: HTTPStatus, text: str, *headers: tuple[bytes, bytes]) -> None:
        self.response = response(status, list(headers), text.encode() + b"\n")
        self.request_headers: Headers = []
        """Those of the request, if they could be read."""
        super().__init__(text)


class Names(Protocol):
    """Has the names of a request's headers in it, and maybe more, but for those that all have who open a WebSocket."""

    def __contains__(self, name: bytes, /) -> bool: ...


class UpgradeRequest:
    """A request that opens a WebSocket. Its headers are made a list of when somebody wants to see that."""

    __slots__ = ("_headers", "_lowered", "_scope", "client", "head", "key", "names", "target")

    def __init__(
        self, target: str, headers: Headers | None, key: bytes, head: bytes = b"", lowered: bytes = b""
    ) -> None:
        """``head`` has what stands before the blank line, and maybe that too."""
        self.target = target
        """Path and query as sent, without scheme and host."""
        self.key = key
        self.client: tuple[str, int] | None = None
        """Whose it is, as ASGI has it; whoever has read the request says so."""
        self.names: Names = () if headers is None else {name for name, _ in headers}
        self._headers = headers
        self.head = head
        self._lowered = lowered
        self._scope: Mapping[str, Any] | None = None

    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        if self._headers is None:
            self._headers = headers_in(self.head)
            self.names = {name for name, _ in self._headers}
        return self._headers

    def header(self, name: bytes) -> bytes | None:
        """The value of the first such header."""
        if self._headers is not None:
            return first(self._headers, name)
        start = self._lowered.find(b"\r\n%b:" % name)
        if start < 0:
            return None
        start += len(name) + 3
        return self.head[start : self.head.find(b"\r\n", start)].strip(b" \t")

    @property
    def scope(self) -> Mapping[str, Any]:
        """What of an ASGI scope says who asks, or the scope that it has been given."""
        return {"client": self.client, "headers": self.headers} if self._scope is None else self._scope

    @scope.setter
    def scope(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope

    def values(self, name: bytes) -> list[str]:
        """Elements of a header that is a list, over all its lines; empty ones left out."""
        return _elements(self.headers, name)


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of the first header of that name, which is in lower case as theirs are."""
    return next((value for key, value in headers if key == name), None)


def offers_websocket(method: bytes, version: str, headers: Headers) -> bool:
    """Whether a request that offers to upgrade the connection offers to open a WebSocket on it.

    HTTP/1.0 knows no upgrade (RFC 9110, section 7.8). With another method or a body it is a request like any other:
    a proxy in front would take for its body what is read here as frames. Names of headers are in lower case.
    """
    offered = _elements(headers, b"upgrade")
    websocket = any(value.lower() == "websocket" for value in offered)
    return websocket and method == b"GET" and version == "1.1" and not _has_body(headers)


def _elements(headers: Headers, name: bytes) -> list[str]:
    found = [value for key, value in headers if key == name]
    elements = b",".join(found).decode("latin-1").split(",") if found else ()
    return [element for each in elements if (element := each.strip())]


def _has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" \t0")) for name, value in headers
    )


def read_usual(arrived: bytes) -> UpgradeRequest | None:
    """The request, if it has come whole, with nothing behind it, and is like nearly all.

    This is what every connection costs. None says nothing: `read_request` knows all of them.
    """
    # not even looked at, if it is too long: one read may bring four times as much, of tens of thousands of headers
    found = _USUAL_HEAD.fullmatch(arrived) if len(arrived) <= HEAD_LIMIT else None
    if found is None:
        return None
    lowered = arrived.lower()
    headers: list[bytes] = _NAMES.findall(lowered)
    names = frozenset(headers)
    if not (names >= _NEEDED and (_CONNECTION in names or _OF_FIREFOX in names) and _UNUSUAL.isdisjoint(names)):
        return None
    if len(names) < len(headers) and any(headers.count(name) > 1 for name in _ONLY_ONCE):
        return None
    start = lowered.find(_BEFORE_KEY) + len(_BEFORE_KEY)
    request = UpgradeRequest(found[1].decode(), None, arrived[start : start + _KEY_SIZE], arrived, lowered)
    request.names = names
    return request


def read_request(arrived: bytearray) -> tuple[UpgradeRequest, bytes] | None:
    """The request in what has arrived, and what follows it; None while it goes on. Raises `Refusal`."""
    end = arrived.find(b"\r\n\r\n")
    if (len(arrived) if end < 0 else end) > HEAD_LIMIT:
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large.")
    return None if end < 0 else (parse_request(bytes(arrived[:end])), bytes(arrived[end + 4 :]))


def parse_request(head: bytes) -> UpgradeRequest:
    """The request in these bytes, up to and without the blank line. Raises `Refusal`."""
    first, _, fields = head.partition(b"\r\n")
    fields += b"\r\n" if fields else b""
    valid = _FIELDS.fullmatch(fields)
    headers = _read_fields(fields) if valid else []
    try:
        request = UpgradeRequest(_target(first), headers, b"", b"%b\r\n%b" % (first, fields))
        if not valid:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid header.")
        _check(request)
        request.key = _key([value for name, value in headers if name == b"sec-websocket-key"])
    except Refusal as refusal:
        refusal.request_headers = headers
        raise
    return request


def read_again(head: bytes) -> UpgradeRequest:
    """The request of a head that has been read before, all but its key."""
    return UpgradeRequest(_target(head.partition(b"\r\n")[0]), None, b"", head)


def headers_in(head: bytes) -> Headers:
    return _read_fields(head.partition(b"\r\n")[2])


def _read_fields(fields: bytes) -> Headers:
    found = [(name.lower(), value.strip(b" \t")) for name, value in _FIELD.findall(fields)]
    return [_SHARED.get(field, field) for field in found]


_SHARED = {
    field: field
    for field in (
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"connection", b"upgrade"),
        (b"connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
        (b"cache-control", b"no-cache"),
        (b"pragma", b"no-cache"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
    )
}
"""Headers of nearly all: one object for all of these, as long as they are kept for a program."""


def _check(request: UpgradeRequest) -> None:
    """Raise `Refusal` for what is not an upgrade to WebSocket."""
    headers = request.headers
    if _has_body(headers):
        raise Refusal(HTTPStatus.BAD_REQUEST, "A request that opens a WebSocket has no body.")
    if [name for name, _ in headers].count(b"host") != 1:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Host is needed, once.")
    if not any(value.lower() == "websocket" for value in request.values(b"upgrade")):
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "Upgrade must be websocket.", (b"upgrade", b"websocket"))
    if not any(value.lower() == "upgrade" for value in request.values(b"connection")):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Connection must have upgrade, which a proxy in front must pass on.")
    if request.values(b"sec-websocket-version") != ["13"]:
        version_header = (b"sec-websocket-version", b"13")
        raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13.", version_header)


def _target(line: bytes) -> str:
    """Path and query of a request line."""
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid request line.") from None
    match = _TARGET.fullmatch(target)
    if version == b"HTTP/1.0":
        raise Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "HTTP/1.0 knows no Upgrade. A proxy in front must speak HTTP/1.1: nginx does with proxy_http_version 1.1.",
            (b"upgrade", b"websocket"),
        )
    if version != b"HTTP/1.1" or match is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid request line.")
    if method != b"GET":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A WebSocket is opened by GET.", (b"allow", b"GET"))
    path: str = match[1].decode("ascii")
    return path if path.startswith("/") else f"/{path}"


def _key(found: list[bytes]) -> bytes:
    """The one Sec-WebSocket-Key."""
    if len(found) == 1 and _is_key(found[0]):
        return found[0]
    raise Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64, once.")


def _is_key(text: bytes) -> bool:
    """Whether it is sixteen bytes in base64."""
    try:
        return len(a2b_base64(text, strict_mode=True)) == 16
    except ValueError:
        return False


def accept(
    key: bytes,
    subprotocol: str | None,
    extensions: str,
    headers: Iterable[tuple[bytes, bytes]],
    usual: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """The response that opens the WebSocket. Raises `ValueError` for a header that cannot be sent.

    ``usual`` are headers that many such responses have.
    """
    digest = b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
    lines: Headers = []
    if extensions:
        lines.append((b"Sec-WebSocket-Extensions", extensions.encode("ascii")))
    if subprotocol:
        lines.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
    lines += headers
    return _ACCEPTED % (digest, _usual_fields(tuple(usual)) + (_fields(lines) if lines else b""))


def response(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole HTTP response, after which the connection closes. Raises `ValueError` as `accept`."""
    names = {name.lower() for name, _ in headers}
    about, body = content(status, body)
    given = (b"date", formatdate(usegmt=True).encode("ascii")), (b"connection", b"close"), *about
    return _head(status, headers + [each for each in given if each[0] not in names]) + body


def content(status: int, text: bytes) -> tuple[Headers, bytes]:
    """A text as a response's body, and the headers about it, as far as the status may have them.

    Source: RFC 9110, sections 6.4.1, 8.6 and 15.3.6.
    """
    if status not in BODILESS:
        return [(b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain; charset=utf-8")], text
    return [(b"content-length", b"0")] if status == HTTPStatus.RESET_CONTENT else [], b""


def _head(status: int, headers: Headers) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase.encode("ascii"), _fields(headers))


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"header {name!r}: {value!r} cannot be sent")
    return b"".join([b"%b: %b\r\n" % field for field in headers])


@lru_cache(8)
def _usual_fields(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return _fields(headers)
