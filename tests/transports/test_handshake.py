"""Requests that open a WebSocket, requests that do not, and the answers."""

import re
from email.utils import parsedate_to_datetime

import pytest

from gateway.transports import handshake
from gateway.transports.handshake import (
    HEAD_LIMIT,
    Refusal,
    UpgradeRequest,
    accept,
    parse_request,
    read_again,
    read_usual,
    response,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

HEADERS = {
    b"Host": b"server.example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}


def head(*extra: bytes, line: bytes = b"GET /chat HTTP/1.1", **changed: bytes | None) -> bytes:
    """A request; ``changed`` headers have another value or, with None, are left out."""
    changes = {name.replace("_", "-").lower().encode(): value for name, value in changed.items()}
    headers = {name: changes.get(name.lower(), value) for name, value in HEADERS.items()}
    return b"\r\n".join(
        [line, *(b"%b: %b" % (name, value) for name, value in headers.items() if value is not None), *extra]
    )


def refusal(request: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    with pytest.raises(Refusal) as refused:
        parse_request(request)
    return parse(refused.value.response)


def parse(answer: bytes) -> tuple[int, dict[str, str], str]:
    start, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    line, *fields = start.split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [\w -]*", line)
    assert match, line
    return int(match[1]), {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}, body


# — requests —


def test_the_example_of_rfc_6455() -> None:
    """Section 1.3."""
    request = parse_request(
        b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13"
    )
    assert request.target == "/chat"
    assert request.key == KEY
    assert request.values(b"sec-websocket-protocol") == ["chat", "superchat"]
    assert dict(request.headers)[b"origin"] == b"http://example.com"
    assert accept(request.key, "chat", "", []) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )


def test_headers_keep_order_and_bytes() -> None:
    request = parse_request(head(b"X-Two:  b \t", b"X-One:a", b"X-TWO: \xc3\xa9 \xff", b"X-Empty:"))
    assert request.headers[-4:] == [(b"x-two", b"b"), (b"x-one", b"a"), (b"x-two", b"\xc3\xa9 \xff"), (b"x-empty", b"")]


def test_lists_over_several_lines() -> None:
    lines = b"Sec-WebSocket-Protocol: a,b", b"X: x", b"sec-websocket-protocol:", b"Sec-WebSocket-Protocol: ,c ,, d"
    assert parse_request(head(*lines)).values(b"sec-websocket-protocol") == ["a", "b", "c", "d"]


def test_an_empty_list_of_subprotocols() -> None:
    assert parse_request(head(b"Sec-WebSocket-Protocol:")).values(b"sec-websocket-protocol") == []
    assert parse_request(head(b"Sec-WebSocket-Protocol: , ")).values(b"sec-websocket-protocol") == []
    assert parse_request(head()).values(b"sec-websocket-protocol") == []


@pytest.mark.parametrize(
    "request_head",
    [
        head(upgrade=b"WebSocket"),
        head(upgrade=b"h2c, websocket"),
        head(b"Upgrade: websocket", upgrade=b"h2c"),
        head(connection=b"keep-alive, upgrade"),
        head(b"Connection: UPGRADE", connection=b"keep-alive"),
        head(sec_websocket_version=b" 13 "),
        head(b"Content-Length: 0"),
        head(host=b""),
    ],
)
def test_requests_that_open(request_head: bytes) -> None:
    assert parse_request(request_head).key == KEY


@pytest.mark.parametrize(
    ("sent", "target"),
    [
        (b"/", "/"),
        (b"/a%20b/%C3%A9?c=d&e", "/a%20b/%C3%A9?c=d&e"),
        (b"//double", "//double"),
        (b"/?next=http://x/", "/?next=http://x/"),
        (b"http://server.example.com/chat?a", "/chat?a"),
        (b"HTTPS://server.example.com:443/chat", "/chat"),
        (b"http://server.example.com", "/"),
        (b"http://server.example.com?a=/b", "/?a=/b"),
    ],
)
def test_targets(sent: bytes, target: str) -> None:
    assert parse_request(head(line=b"GET %b HTTP/1.1" % sent)).target == target


REFUSED: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no version": (head(line=b"GET /chat"), 400),
    "two spaces": (head(line=b"GET  /chat HTTP/1.1"), 400),
    "space in the target": (head(line=b"GET /a b HTTP/1.1"), 400),
    "no target": (head(line=b"GET  HTTP/1.1"), 400),
    "HTTP/1.0": (head(line=b"GET /chat HTTP/1.0"), 426),
    "HTTP/2": (head(line=b"PRI * HTTP/2.0"), 400),
    "target that is no path": (head(line=b"GET chat HTTP/1.1"), 400),
    "target of OPTIONS": (head(line=b"GET * HTTP/1.1"), 400),
    "another scheme": (head(line=b"GET ftp://host/ HTTP/1.1"), 400),
    "scheme without host": (head(line=b"GET http:///chat HTTP/1.1"), 400),
    "target not ASCII": (head(line=b"GET /\xc3\xa9 HTTP/1.1"), 400),
    "tab in the target": (head(line=b"GET /a\tb HTTP/1.1"), 400),
    "newline in the target": (head(line=b"GET /a\nX:y HTTP/1.1"), 400),
    "body": (head(b"Content-Length: 3"), 400),
    "chunks": (head(b"Transfer-Encoding: chunked"), 400),
    "a body or none": (head(b"Content-Length: 3", b"Content-Length: 0"), 400),
    "POST": (head(line=b"POST /chat HTTP/1.1"), 405),
    "get": (head(line=b"get /chat HTTP/1.1"), 405),
    "no Host": (head(host=None), 400),
    "two Hosts": (head(b"Host: other"), 400),
    "no Upgrade": (head(upgrade=None), 426),
    "Upgrade to something else": (head(upgrade=b"h2c"), 426),
    "Upgrade to something like it": (head(upgrade=b"websockets"), 426),
    "no Connection": (head(connection=None), 400),
    "Connection stays": (head(connection=b"keep-alive"), 400),
    "no version of WebSocket": (head(sec_websocket_version=None), 426),
    "old version of WebSocket": (head(sec_websocket_version=b"8"), 426),
    "versions of WebSocket": (head(sec_websocket_version=b"13, 8"), 426),
    "version of WebSocket twice": (head(b"Sec-WebSocket-Version: 13"), 426),
    "no key": (head(sec_websocket_key=None), 400),
    "empty key": (head(sec_websocket_key=b""), 400),
    "two keys": (head(b"Sec-WebSocket-Key: " + KEY), 400),
    "short key": (head(sec_websocket_key=b"dGhlIHNhbXBsZSBub25j"), 400),
    "long key": (head(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZWRk"), 400),
    "key that is no base64": (head(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZQ=!"), 400),
    "key with something between": (head(sec_websocket_key=b"dGhlIHNhbXBs!ZSBub25jZQ=="), 400),
    "key without padding": (head(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZQ"), 400),
    "key not ASCII": (head(sec_websocket_key=b"\xff" * 24), 400),
    "header without colon": (head(b"X-Header"), 400),
    "header without name": (head(b": value"), 400),
    "space before the colon": (head(b"X-Header : value"), 400),
    "folded line": (head(b"X-Header: a", b" b"), 400),
    "line folded by a tab": (head(b"X-Header: a", b"\tb"), 400),
    "blank line": (head(b"", b"X-Header: a"), 400),
    "name not ASCII": (head(b"X-H\xc3\xa9: a"), 400),
    "bare newline": (head(b"X-Header: a\nX-Injected: b"), 400),
    "bare carriage return": (head(b"X-Header: a\rb"), 400),
    "null": (head(b"X-Header: a\x00b"), 400),
    "delete": (head(b"X-Header: a\x7fb"), 400),
}


@pytest.mark.parametrize(("request_head", "status"), REFUSED.values(), ids=REFUSED)
def test_refusals(request_head: bytes, status: int) -> None:
    refused, headers, body = refusal(request_head)
    assert refused == status
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body) > 1


def test_refusals_say_what_would_do() -> None:
    assert refusal(head(line=b"POST / HTTP/1.1"))[1]["allow"] == "GET"
    assert refusal(head(upgrade=None))[1]["upgrade"] == "websocket"
    assert refusal(head(sec_websocket_version=b"8"))[1]["sec-websocket-version"] == "13"


# — what nearly every client sends —

USUAL: dict[str, bytes] = {
    "least": head(),
    "a query": head(line=b"GET /chat?a=%20b HTTP/1.1"),
    "another case": head(connection=b"upgrade", upgrade=b"WebSocket"),
    "Firefox": head(connection=b"keep-alive, Upgrade"),
    "more than one of the others": head(b"Cookie: a=b", b"Cookie: c=d", b"Sec-WebSocket-Protocol: a, b"),
    "spaces around": head(b"Origin: \t https://example.com \t", b"X-Empty:"),
    "not ASCII": head(b"X-Name: \xc3\x89"),
    "upgrades to something else, too": head(b"Upgrade: h2c"),
}


@pytest.mark.parametrize("request_head", USUAL.values(), ids=USUAL)
def test_the_usual_is_read_as_everything_is(request_head: bytes) -> None:
    usual, known = read_usual(request_head + b"\r\n\r\n"), parse_request(request_head)
    assert usual is not None
    assert (usual.target, usual.key) == (known.target, known.key)
    for name in (b"origin", b"cookie", b"host", b"x-empty", b"x-name", b"x-nothing"):
        assert usual.header(name) == known.header(name)
        assert name in usual.names or name not in known.names
    assert usual.headers == known.headers
    assert usual.values(b"sec-websocket-protocol") == known.values(b"sec-websocket-protocol")
    assert usual.header(b"origin") == known.header(b"origin")


@pytest.mark.parametrize("request_head", [each for each, _ in REFUSED.values()], ids=REFUSED)
def test_what_is_refused_is_not_usual(request_head: bytes) -> None:
    assert read_usual(request_head + b"\r\n\r\n") is None


UNUSUAL: dict[str, bytes] = {
    "nothing": b"",
    "the end is still to come": head() + b"\r\n\r",
    "frames behind it": head() + b"\r\n\r\n\x81",
    "another request behind it": (head() + b"\r\n\r\n") * 2,
    "too large": head(b"X: " + b"x" * HEAD_LIMIT) + b"\r\n\r\n",
    "no space before the key, and a value where the key would be sought": b"GET / HTTP/1.1\r\nX-A:%b\r\n" % KEY
    + b"\r\n".join(b"%b:%b" % (n, (b"" if n.endswith(b"Key") else b" ") + v) for n, v in HEADERS.items())
    + b"\r\n\r\n",
}


@pytest.mark.parametrize("arrived", UNUSUAL.values(), ids=UNUSUAL)
def test_what_else_is_not_usual(arrived: bytes) -> None:
    assert read_usual(arrived) is None


# — answers —


def test_a_request_tells_the_same_once_its_headers_are_known() -> None:
    request = read_usual(head(b"Cookie: a=1") + b"\r\n\r\n")
    assert request is not None
    for _ in range(2):
        assert (request.header(b"host"), request.header(b"origin")) == (b"server.example.com", None)
        assert (b"cookie" in request.names, b"origin" in request.names) == (True, False)
        assert len(request.headers) == len(HEADERS) + 1


@pytest.mark.parametrize("request_head", USUAL.values(), ids=USUAL)
def test_the_head_of_a_request_can_be_read_again(request_head: bytes) -> None:
    usual = read_usual(request_head + b"\r\n\r\n")
    assert usual is not None
    for request in (usual, parse_request(request_head)):
        again = read_again(request.head)
        assert (again.target, again.headers) == (request.target, request.headers)


def test_what_is_too_long_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be four times as long, and have tens of thousands of headers."""
    monkeypatch.setattr(handshake, "_USUAL_HEAD", None)
    assert read_usual(head(b"a:\r\n" * HEAD_LIMIT)) is None


def test_accept_with_everything() -> None:
    answer = accept(KEY, "chat", "permessage-deflate; a=1", [(b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"c=d")])
    assert answer.endswith(
        b"Sec-WebSocket-Extensions: permessage-deflate; a=1\r\nSec-WebSocket-Protocol: chat\r\n"
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n"
    )


@pytest.mark.parametrize("subprotocol", [None, ""])
def test_accept_without_subprotocol(subprotocol: str | None) -> None:
    answer = accept(KEY, subprotocol, "", [])
    assert b"Protocol:" not in answer
    assert b"Extensions" not in answer


UNSENDABLE: list[tuple[bytes, bytes]] = [
    (b"X-A", b"a\r\nX-Injected: b"),
    (b"X-A", b"a\nb"),
    (b"X-A", b"a\x00"),
    (b"X-A\r\nX-Injected", b"b"),
    (b"X A", b"b"),
    (b"X-A:", b"b"),
    (b"", b"b"),
]


@pytest.mark.parametrize(("name", "value"), UNSENDABLE)
def test_headers_that_cannot_be_sent(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        accept(KEY, None, "", [(name, value)])
    with pytest.raises(ValueError, match="cannot be sent"):
        response(403, [(name, value)], b"")


@pytest.mark.parametrize("subprotocol", ["a\r\nX-Injected: b", "é"])
def test_subprotocols_that_cannot_be_sent(subprotocol: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be sent|ascii"):
        accept(KEY, subprotocol, "", [])


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_response_without_body(status: int) -> None:
    head, end, body = response(status, [], b"no body, please").partition(b"\r\n\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")
    assert (b"content-length: 0" in head) == (status == 205)
    assert (b"content-length" in head) == (status == 205)


def test_usual_headers_stand_before_the_others() -> None:
    usual = [(b"date", b"today"), (b"x-a", b"b")]
    answer = accept(KEY, "chat", "", [(b"X-C", b"d")], usual)
    assert answer.endswith(b"\r\ndate: today\r\nx-a: b\r\nSec-WebSocket-Protocol: chat\r\nX-C: d\r\n\r\n")
    with pytest.raises(ValueError, match="cannot be sent"):
        accept(KEY, None, "", [], [(b"X-A", b"a\nb")])


def test_response() -> None:
    status, headers, body = parse(response(403, [(b"X-Why", b"no")], b"Not you."))
    assert (status, body) == (403, "Not you.")
    assert headers["x-why"] == "no"
    assert headers["content-length"] == "8"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert parsedate_to_datetime(headers["date"]).tzinfo is not None


def test_response_with_headers_of_the_application() -> None:
    given = [(b"Content-Type", b"application/json"), (b"Content-Length", b"2"), (b"DATE", b"now")]
    answer = response(403, given, b"{}")
    _, headers, body = parse(answer)
    assert body == "{}"
    assert headers["content-type"] == "application/json"
    assert headers["date"] == "now"
    assert answer.lower().count(b"content-length") == 1


def test_statuses_without_a_name() -> None:
    assert response(499, [], b"").startswith(b"HTTP/1.1 499 \r\n")


def test_a_request_without_headers_has_no_values() -> None:
    assert UpgradeRequest("/", [], b"").values(b"connection") == []
