"""A gateway that runs, through whatever stands before it."""

import asyncio
import time
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gateway.config.settings import Settings
from gateway.doctor.finding import About, Finding
from gateway.doctor.http import Address, Answer, Line, ask, upgrade
from gateway.errors import DisconnectCode

ANSWER = 10.0
"""Seconds for each answer."""

AT_ONCE = 3.0
"""Seconds in which the first event of a stream has come, unless something holds it back."""

GRACE = 5.0
"""Seconds after which a ping that is due is late."""

_NGINX = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'


class Edge:
    """The examination of one address."""

    def __init__(self, settings: Settings, address: Address, origin: str, token: str) -> None:
        self._reached = False
        self._settings = settings
        self._address = address
        self._origin = origin
        self._token = token
        self._about = About(address.websocket)

    async def run(self, *, idle: bool) -> list[Finding]:
        """All findings. With ``idle``, waits for a ping, as a page does that says nothing."""
        found = await self._health()
        try:
            answer = await upgrade(self._address, self._origin, ANSWER)
        except (OSError, ValueError) as error:
            text = str(error) or f"no answer within {ANSWER:g} s"
            return [*found, self._about.problem(text, "see that it is the address of what stands before the gateway")]
        found += self._handshake(answer)
        if answer.status == 101:
            found += await self._session(idle)
        if self._settings.uni_sse.enabled:
            found += await self._stream("uni_sse", {"token": self._token})
        if self._settings.sse.enabled:
            found += await self._stream("sse", {"id": 1, "connect": {"token": self._token}})
        return found

    # — over plain HTTP —

    async def _health(self) -> list[Finding]:
        """What the gateway says of itself, and which nodes it knows."""
        about = About(f"{self._address.http}/health/ready")
        body = await self._call("GET", "/health/ready")
        if body is None or "node" not in body:
            return [about.note("it does not tell how it is", "let it through to the doctor, or set health.enabled")]
        self._reached = True
        found = [about.warning(text, "do what it says") for text in body.get("warnings", ())]
        broker = body.get("broker", {})
        if broker.get("problem") or not broker.get("connected", True) or broker.get("deaf"):
            text = broker.get("problem") or "its broker is away"
            found.append(about.problem(text, broker.get("remedy") or "see that the broker runs"))
        status = body.get("status", "")
        if status not in ("ok", "degraded"):
            found.append(about.warning(f"the node is {status}", "wait until another has taken its place"))
        return found or [about.ok(status)]

    async def count_nodes(self) -> int | None:
        """How many nodes the gateway knows; None if it does not tell, or the settings have no API key."""
        key = self._settings.http_api.key
        if not key:
            return None
        body = await self._call("POST", "/api/info", json={}, headers={"X-API-Key": key})
        result = body.get("result") if body else None
        return len(result["nodes"]) if result else None

    async def _call(self, method: str, path: str, **request: Any) -> dict[str, Any] | None:
        """An object of JSON, None for any other answer or none."""
        try:
            async with httpx.AsyncClient(timeout=ANSWER) as client:
                return _object((await client.request(method, self._address.http + path, **request)).content)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None

    # — the handshake —

    def _handshake(self, answer: Answer) -> list[Finding]:
        found: list[Finding] = []
        if answer.version == "HTTP/1.0":
            found.append(
                self._about.problem(
                    f"{answer.server or 'what answers'} speaks HTTP/1.0, in which there are no WebSockets",
                    f"let it speak HTTP/1.1 (nginx: {_NGINX})",
                )
            )
        if answer.status == 101:
            return [*found, self._about.ok(f"a WebSocket opens{_by(answer)}")]
        status = answer.status
        if status == 404 and self._reached:  # the path is right, so it has come as a plain request
            status = 426
        elif status == 403 and not self._origin:  # with which a WebSocket of an unknown path is answered, too
            status = 404
        text, remedy = _refusal(status, answer.headers.get("location", ""), self._origin, self._address)
        return [*found, self._about.problem(f"no WebSocket opens{_by(answer)}: {text}", remedy)]

    # — the session —

    async def _session(self, idle: bool) -> list[Finding]:
        """Connect as a client does, and wait for what keeps the connection alive."""
        try:
            origin: Any = self._origin or None
            async with connect(self._address.websocket, origin=origin, ping_interval=None) as socket:
                return await self._converse(socket, idle)
        except (OSError, WebSocketException) as error:
            return [self._about.problem(f"the connection broke off: {error}", "look into the gateway's log")]

    async def _converse(self, socket: ClientConnection, idle: bool) -> list[Finding]:
        try:
            async with asyncio.timeout(ANSWER):
                await socket.send(msgspec.json.encode({"id": 1, "connect": {"token": self._token}}).decode())
                first, *_ = (await socket.recv(decode=True)).splitlines() or [""]
        except TimeoutError:
            return [
                self._about.problem(
                    f"what a client sends is not answered within {ANSWER:g} s",
                    "see that nothing in between holds back what goes through a WebSocket",
                )
            ]
        except ConnectionClosed as error:
            return [self._ended(error)]
        match _object(first.encode()):
            case {"error": {"message": message, "code": code}}:
                return [self._about.problem(f"the client is refused: {message} ({code})", _LOG)]
            case {"connect": {"client": _} as result}:
                ping = float(result.get("ping", 0))
            case _:
                return [self._about.problem("what answers is no gateway", "see that it is the gateway's address")]
        found = [self._about.ok("a client is let in")]
        if not ping:
            return [*found, self._about.warning("no pings keep connections alive", "set client.ping_interval = 25")]
        if not idle:
            return [*found, self._about.note("how long it may be silent was not looked at", "gateway doctor --idle")]
        return [*found, await self._idle(socket, ping)]

    async def _idle(self, socket: ClientConnection, ping: float) -> Finding:
        begin = time.monotonic()
        try:
            async with asyncio.timeout(ping + GRACE):
                while await socket.recv() != "{}":  # publications are no silence, but no pings either
                    pass
        except TimeoutError:
            return self._about.problem(
                f"no ping has come within {ping + GRACE:g} s", "see that nothing in between holds back what is sent"
            )
        except ConnectionClosed:
            lasted = time.monotonic() - begin
            return self._about.problem(
                f"a connection that is silent is cut after {lasted:.1f} s, and pings come every {ping:g} s",
                f"let what stands before the gateway wait longer than {ping:g} s (nginx: proxy_read_timeout, HAProxy: "
                "timeout tunnel), or set client.ping_interval lower",
            )
        return self._about.ok(f"a connection may be silent for the {ping:g} s between two pings")

    def _ended(self, error: ConnectionClosed) -> Finding:
        if error.rcvd is None:
            return self._about.problem("the connection was cut before a client was answered", _LOG)
        code, reason = error.rcvd.code, error.rcvd.reason
        if code == DisconnectCode.BAD_REQUEST and not self._token:  # the way to the gateway is good
            return self._about.note("nobody is let in without a token, and none is given", "give one with --token")
        remedy = _CODES.get(code, _LOG)
        return self._about.problem(f"the client is sent away: {reason} ({code})", remedy)

    # — streams —

    async def _stream(self, kind: str, request: dict[str, Any]) -> list[Finding]:
        """Whether server-sent events come when they are sent."""
        path = f"/connection/{kind}"
        about = About(f"{self._address.http}{path}")
        command = quote(msgspec.json.encode(request).decode())
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br"}  # as browsers do
        if self._origin:
            headers["Origin"] = self._origin
        try:
            async with ask(self._address, f"{path}?cf_connect={command}", headers, AT_ONCE) as line:
                if line.answer.status != 200:
                    return [about.problem(f"is answered {line.answer.status}", _LOG)]
                async with asyncio.timeout(AT_ONCE):
                    await _event(line)
        except TimeoutError:
            return [
                about.problem(
                    f"nothing of a stream has come within {AT_ONCE:g} s: something in between collects it first",
                    "let it pass on what it gets at once (nginx: proxy_buffering off, gzip off for text/event-stream)",
                )
            ]
        except (OSError, ValueError) as error:
            return [about.problem(str(error), _LOG)]
        return [about.ok("events come when they are sent")]


_LOG = "look into the gateway's log, which tells why; give a token with --token"

_CODES: dict[int, str] = {
    DisconnectCode.INVALID_TOKEN: "gateway doctor --token TOKEN says what is wrong with it",
    DisconnectCode.STALE: "see that nothing in between holds back what clients send",
    DisconnectCode.PERMISSION_DENIED: "on_connect of the program has refused it",
}


def _refusal(status: int, location: str, origin: str, address: Address) -> tuple[str, str]:
    """Why a handshake was not answered by 101, and what to do."""
    told: dict[int, tuple[str, str]] = {
        403: (f"the origin {origin} is refused", "gateway doctor --origin says what to write"),
        404: (
            f"there is nothing at {address.prefix}/connection/websocket",
            "correct the path; if what stands before the gateway adds a prefix, set http_server.root_path",
        ),
        426: ("the request has lost its Upgrade on the way", f"pass it on (nginx: {_NGINX})"),
        429: ("there are too many connections of this address", "wait, or raise the limits of the gateway"),
        502: ("what stands before the gateway does not reach it", "correct its address there, or start the gateway"),
        503: (
            "the gateway takes no more connections",
            "see /health/ready: it stops, or client.connection_limit is reached",
        ),
        504: ("what stands before the gateway got no answer", "see that the gateway's event loop is not held up"),
    }
    if status in told:
        return told[status]
    if location:
        return f"it is sent elsewhere, which WebSockets do not follow ({status}, {location})", "give that address"
    if 400 <= status < 500:
        return f"the handshake does not arrive as it was sent ({status})", f"pass on its headers (nginx: {_NGINX})"
    return f"it is answered {status}", "see that it is the gateway's address, and not another server's"


async def _event(line: Line) -> None:
    """Return when the first event is there, or something that is compressed. Raises ``ConnectionError`` at the end."""
    arrived = b""
    while b"data:" not in arrived and not (arrived and "content-encoding" in line.answer.headers):
        if not (part := await line.more()):
            raise ConnectionError("the stream ended before its first event")
        arrived += part


def _by(answer: Answer) -> str:
    return f", through {answer.server}" if answer.server else ""


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None
