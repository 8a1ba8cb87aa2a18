"""Every refusal, provoked on a server as `gateway serve` runs it: the answer, the log line, the counter.

docs/logs.md has them in a table, which is held against what happens here.
"""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway import Gateway, files
from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Publication
from gateway.serve.app import create_app
from gateway.session.rejections import KINDS
from gateway.transports.emulation import MOST, QUESTION
from gateway.web.workers import read_node
from tests.auth.issuer import P256, signed
from tests.serving import on_uvicorn
from tests.transports.sockets import Peer, client_frame, upgrade_request
from tests.waiting import until

SECRET = "a secret of more than thirty-two bytes, as all should be"
PATH = "/connection/websocket"
EVIL = "https://evil.example"


class Ground(Struct):
    """A running gateway."""

    node: Node
    port: int

    def client(self, path: str = PATH, **options: Any) -> connect:
        url = f"ws://127.0.0.1:{self.port}{path}"
        return connect(url, compression=None, proxy=None, ping_interval=None, **options)

    @asynccontextmanager
    async def peer(self, request: bytes = b"") -> AsyncIterator[Peer]:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        peer.write(request or upgrade_request(PATH))
        try:
            yield peer
        finally:
            peer.writer.transport.abort()


Provoke = Callable[[Ground], Awaitable[str]]


class Refused(Struct):
    """What brings a refusal about, and the settings for it. Answers how the client has been answered."""

    provoke: Provoke
    settings: dict[str, Any] = {}
    make: Callable[[Settings], FastAPI] = create_app


def token(user: str = "bob", secret: str = SECRET, **claims: Any) -> str:
    return sign_connection(secret, user, **claims)


def told(status: int, body: bytes) -> str:
    """Status and first line of the text, as the table has them."""
    text = body.decode().strip().partition("\n")[0]
    return f"{status}: {text}" if text else str(status)


async def handshake(ground: Ground, **options: Any) -> str:
    with pytest.raises(InvalidStatus) as refused:
        async with ground.client(**options):
            pass
    return told(refused.value.response.status_code, bytes(refused.value.response.body or b""))


def rates(layer: str, **limits: str) -> dict[str, Any]:
    return client(rate_limit={layer: {"enabled": True, **limits}})


async def ended(client: ClientConnection) -> str:
    await asyncio.wait_for(client.wait_closed(), 10)
    return f"{client.close_code} {client.close_reason}"


async def reply(client: ClientConnection, command: dict[str, Any]) -> dict[str, Any]:
    await client.send(json.dumps({"id": 1, **command}))
    answer: dict[str, Any] = json.loads(await client.recv())
    return answer


def says(*messages: str | bytes | dict[str, Any], first: dict[str, Any] | None = None) -> Provoke:
    """A client that connects by a good token, unless it has something else to say first, and is then closed."""

    async def provoke(ground: Ground) -> str:
        async with ground.client() as client:
            if first is None:
                assert "connect" in await reply(client, {"connect": {"token": token()}})
            else:
                await client.send(json.dumps({"id": 1, **first}))
            for message in messages:
                await client.send(json.dumps(message) if isinstance(message, dict) else message)
            return await ended(client)

    return provoke


def connects(text: str, *, answered: bool = False) -> Provoke:
    """A client with this token, which is answered by an error, or closed."""

    async def provoke(ground: Ground) -> str:
        async with ground.client() as client:
            command = {"id": 1, "connect": {"token": text}}
            if not answered:
                await client.send(json.dumps(command))
                return await ended(client)
            error = (await reply(client, command))["error"]
            return f"error {error['code']} {error['message']}"

    return provoke


async def _foreign(ground: Ground) -> str:
    return await handshake(ground, origin=EVIL)


async def _other_protocol(ground: Ground) -> str:
    return await handshake(ground, subprotocols=["mqtt"])


async def _full(ground: Ground) -> str:
    async with ground.client():
        return await handshake(ground)


async def _scarce(ground: Ground) -> str:
    with patch.multiple(files, left=lambda: 0, limit=lambda: 1024):
        return await handshake(ground)


async def _too_often(ground: Ground) -> str:
    async with ground.client() as client:
        await reply(client, {"connect": {"token": token()}})
        for _ in range(2):
            error = (await reply(client, {"publish": {"channel": "news", "data": 1}}))["error"]
        return f"error {error['code']} {error['message']}"


async def _one_filter_more(ground: Ground) -> str:
    async with ground.client() as first, ground.client() as second:
        for number, client in enumerate((first, second)):
            await reply(client, {"connect": {"token": token()}})
            filtered = {"channel": "news", "tf": {"key": f"tag{number}", "cmp": "ex"}}
            answer = await reply(client, {"subscribe": filtered})
        return f"error {answer['error']['code']} {answer['error']['message']}"


async def _away(ground: Ground) -> str:
    with patch.object(ground.node.broker, "subscribe", side_effect=BrokerUnavailable):
        async with ground.client("/ws") as client:
            return await ended(client)


async def _undeclared(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        asked = {"socket_id": "48213.907714", "channel_name": "private-orders.7"}
        answer = await http.post(f"http://127.0.0.1:{ground.port}/pusher/auth", data=asked)
        return told(answer.status_code, answer.json()["detail"].encode())


async def _draining(ground: Ground) -> str:
    ground.node.draining = True
    return await handshake(ground)


async def _elsewhere(ground: Ground) -> str:
    return await handshake(ground, path="/live/connection/websocket")


async def _no_upgrade(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{ground.port}{PATH}")
    assert answer.headers["upgrade"] == "websocket"
    assert "proxy_set_header Upgrade $http_upgrade" in answer.text
    return told(answer.status_code, answer.content)


async def _old_version(ground: Ground) -> str:
    async with ground.peer(upgrade_request(PATH).replace(b"Version: 13", b"Version: 8")) as peer:
        head = await peer.head()
        assert b"sec-websocket-version: 13" in head
        return f"{head.split()[1].decode()}: {(await peer.rest()).decode().strip()}"


async def _no_key(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{ground.port}/api/info", json={}, headers={"X-API-Key": "x"})
    return told(answer.status_code, answer.content)


async def _no_app(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{ground.port}/apps/9001/events?auth_key=other", json={})
        return f"{answer.status_code}: {answer.json()['message']}"


async def _guess(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{ground.port}/admin/auth", json={"password": "guess"})
    return f"{answer.status_code}: {answer.json()['error']['message']}"


async def _rebound(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{ground.port}/admin/auth"
        answer = await http.post(url, json={}, headers={"Host": "evil.example"})
    return f"{answer.status_code}: {answer.json()['error']['message']}"


async def _second(ground: Ground) -> str:
    async with ground.client() as client:
        assert "connect" in await reply(client, {"connect": {"token": token()}})
        return await connects(token())(ground)


async def _blocked(ground: Ground) -> str:
    await ground.node.blocked.store.block("bob", 60)
    await until(lambda: "bob" in ground.node.blocked)
    return await connects(token())(ground)


async def _silent(ground: Ground) -> str:
    async with ground.client() as client:
        return await ended(client)


async def _unfinished(ground: Ground) -> str:
    async with ground.peer() as peer:
        await peer.head()
        peer.write(client_frame(b"x" * 100)[:50])
        _, payload = await peer.frame()
        return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"


async def _unmasked(ground: Ground) -> str:
    async with ground.peer() as peer:
        await peer.head()
        peer.write(b"\x81\x02{}")
        _, payload = await peer.frame()
        return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"


async def _slow(ground: Ground) -> str:
    """It reads nothing, until it is cut off."""
    async with ground.peer() as peer:
        await peer.head()
        peer.stop_reading()
        peer.write(client_frame(json.dumps({"id": 1, "connect": {"token": token(channels=["news"])}}).encode()))
        await until(lambda: ground.node.hub.channels.get("news"))
        news = ground.node.channels.resolve("news")
        publication = Publication(Payload(b'"%b"' % (b"x" * 2**20)))

        async def cut_off() -> int:
            await ground.node.publish(news, publication)
            ground.node.hub.flush()
            return ground.node.metrics.disconnects[3008]

        await until(cut_off)
        return "3008 slow"


async def _large_stream(ground: Ground) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{ground.port}/connection/uni_sse", content=b"x" * 70000)
    return told(answer.status_code, answer.content)


async def _hasty(ground: Ground) -> str:
    """Commands that come while a mebibyte of others waits."""
    url = f"http://127.0.0.1:{ground.port}"
    words = json.dumps({"id": 1, "connect": {"token": token()}})
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", f"{url}/connection/http_stream", content=words) as stream,
    ):
        told = json.loads(await anext(stream.aiter_lines()))["connect"]
        emulation = ground.node.answers[QUESTION].__self__  # type: ignore[attr-defined]  # a method's
        upstream = emulation._upstreams[told["session"]]
        upstream._waiting, upstream._size = deque(), MOST
        answer = await http.post(f"{url}/emulation", json={**told, "data": "{}"})
        return str(answer.status_code)


def of_pusher(*messages: dict[str, Any], key: str = "k3y") -> Provoke:
    """A client of the Pusher protocol, which is closed, or told an error about what it says."""

    async def provoke(ground: Ground) -> str:
        async with ground.client(f"/app/{key}") as client:
            for message in messages:
                assert "established" in json.loads(await client.recv())["event"]
                await client.send(json.dumps(message))
            told = json.loads(await client.recv())
            if told["event"] == "pusher:connection_established":
                return await ended(client)
            data = told["data"]
            return f"{told['event']} {data.get('status', data.get('code'))} {data.get('error', data.get('message'))}"

    return provoke


def app(**settings: Any) -> dict[str, Any]:
    of_app = {"id": "9001", "key": "k3y", "secret": "a secret of the app and its backend", **settings}
    return {"pusher": {"enabled": True, "apps": [of_app]}}


def client(**settings: Any) -> dict[str, Any]:
    return {"client": settings}


def one_filter() -> dict[str, Any]:
    options = {"allow_subscribe_for_client": True, "allow_tags_filter": True, "tags_filter_limit": 1}
    return {"channel": {"without_namespace": options}}


def tokens(**settings: Any) -> dict[str, Any]:
    return client(token=settings)


def program(settings: Settings) -> FastAPI:
    """With a plain WebSocket."""
    gateway, app = Gateway(settings), FastAPI()
    gateway.run_in(app)
    app.state.node = gateway.running.node

    @app.websocket("/ws")
    async def news(websocket: WebSocket) -> None:
        async with gateway.attach(websocket, channels=["news"]):
            raise AssertionError("the client came in")

    return app


def asked_by_pages(settings: Settings) -> FastAPI:
    """That answers pages of the Pusher protocol, and says of no channel who may subscribe to it."""
    gateway, app = Gateway(settings), FastAPI()
    gateway.run_in(app)
    gateway.pusher.user(lambda: "bob")
    app.include_router(gateway.pusher.auth)
    app.state.node = gateway.running.node
    return app


REFUSED: dict[str, Refused] = {
    "origin": Refused(_foreign),
    "subprotocol": Refused(_other_protocol),
    "connection_limit": Refused(_full, client(connection_limit=1)),
    "connection_rate_limit": Refused(_full, client(connection_rate_limit=1)),
    "address_connection_limit": Refused(_full, client(address_connection_limit=1)),
    "address_rate": Refused(_full, rates("address_command", connect="1/day")),
    "file_limit": Refused(_scarce),
    "draining": Refused(_draining),
    "path": Refused(_elsewhere),
    "upgrade": Refused(_no_upgrade),
    "handshake": Refused(_old_version),
    "api_key": Refused(_no_key, {"http_api": {"key": "right"}}),
    "pusher_api": Refused(_no_app, app()),
    "admin_password": Refused(_guess, {"admin": {"enabled": True, "password": "right"}}),
    "admin_host": Refused(_rebound, {"admin": {"enabled": True, "insecure": True}}),
    "token_missing": Refused(connects("")),
    "token_signature": Refused(connects(token(secret="x" * 40))),
    "token_alg": Refused(connects(f"eyJhbGciOiJub25lIn0.{token().split('.')[1]}.")),
    "token_key": Refused(connects(token()), tokens(hmac_secret_key="")),
    "keys_away": Refused(
        connects(signed(P256, "ES256"), answered=True), tokens(jwks_public_endpoint="http://127.0.0.1:1/jwks")
    ),
    "token_format": Refused(connects("not a token")),
    "token_size": Refused(connects(token("x" * 9000))),
    "token_sub": Refused(connects(token(sub=42))),
    "token_exp": Refused(connects(token(exp=1), answered=True)),
    "token_nbf": Refused(connects(token(nbf=4_000_000_000), answered=True)),
    "token_aud": Refused(connects(token(aud="x")), tokens(audience="y")),
    "token_iss": Refused(connects(token(iss="x")), tokens(issuer="y")),
    "token_channel": Refused(connects(token(channel="news"))),
    "token_info": Refused(connects(token(b64info="?"))),
    "token_meta": Refused(connects(token(meta=1))),
    "token_other": Refused(
        says({"id": 2, "refresh": {"token": token("eve")}}, first={"connect": {"token": token(ttl=86400)}})
    ),
    "user_connection_limit": Refused(_second, client(user_connection_limit=1)),
    "channel_limit": Refused(connects(token(channels=["a", "b"])), client(channel_limit=1)),
    "permission_denied": Refused(connects(token("")), client(disallow_anonymous_connection_tokens=True)),
    "blocked": Refused(_blocked),
    "stale": Refused(_silent, client(stale_close_delay="100ms")),
    "bad_command": Refused(says("nonsense")),
    "bad_frame": Refused(_unmasked),
    "message_timeout": Refused(_unfinished, client(message_timeout="200ms")),
    "message_size": Refused(says("x" * 70000)),
    "waiting_commands": Refused(_hasty, {"http_stream": {"enabled": True}}),
    "rate_limit": Refused(_too_often, rates("client_command", publish="1/day")),
    "tags_filter_limit": Refused(_one_filter_more, one_filter()),
    "too_many_errors": Refused(
        says(*[{"id": 2, "publish": {"channel": "news", "data": 1}}] * 2), rates("client_error", total="1/day")
    ),
    "slow_client": Refused(_slow, client(queue_max_size=1024)),
    "no_pong": Refused(says(), client(ping_interval="200ms", pong_timeout="100ms")),
    "broker_away": Refused(_away, make=program),
    "pusher_connection": Refused(of_pusher(key="nobody"), app()),
    "pusher_unauthorized": Refused(of_pusher(), app(authorization_timeout="100ms")),
    "pusher_subscribe": Refused(
        of_pusher({"event": "pusher:subscribe", "data": {"channel": "private-x", "auth": "k3y:0000"}}), app()
    ),
    "pusher_sign_in": Refused(
        of_pusher({"event": "pusher:signin", "data": {"auth": "k3y:0000", "user_data": '{"id":"17"}'}}), app()
    ),
    "pusher_event": Refused(of_pusher({"event": "client-x", "channel": "private-x", "data": 1}), app()),
    "pusher_auth": Refused(_undeclared, app(), asked_by_pages),
}
"""By the reason that counts them."""


@asynccontextmanager
async def ground(settings: dict[str, Any], make: Callable[[Settings], FastAPI] = create_app) -> AsyncIterator[Ground]:
    given = settings.get("client", {})
    key = {"token": {"hmac_secret_key": SECRET, **given.get("token", {})}}
    configured = Settings.model_validate({**settings, "client": {**given, **key}, "uni_sse": {"enabled": True}})
    app = make(configured)
    async with on_uvicorn(app, configured) as port:
        yield Ground(app.state.node, port)


def row(reason: str, answer: str, line: str) -> str:
    """As it stands in the table."""
    line = re.sub(r"client ([0-9a-f-]{36}|\d+\.\d+)", "client …", line)
    answer = re.sub(r"again in \d+ s", "again in … s", answer)
    return f"| `{reason}` | {answer} | {line} |"


def rows() -> dict[str, str]:
    """Those of the table, by reason."""
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
    section = page.split("\n## Refusals\n")[1].split("\n## ")[0]
    return {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", section, re.MULTILINE)}


@pytest.mark.parametrize("reason", REFUSED)
async def test_each_refusal_has_an_answer_a_line_and_a_counter(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    refused = REFUSED[reason]
    async with ground(refused.settings, refused.make) as place:
        answer = await refused.provoke(place)
        lines = [each for each in caplog.records if getattr(each, "reason", "") == reason]
        assert [each.name for each in lines] == ["gateway.refusals"], [each.getMessage() for each in caplog.records]
        assert place.node.metrics.refusals == {reason: 1}
        [counted] = [each.samples for each in await read_node(place.node) if each.name == "gateway_refusals"]
        assert [(labels["reason"], count) for _, labels, count in counted] == [(reason, 1)]
        assert SECRET not in lines[0].getMessage()
        fields = {name: value for each in lines[0].args or () for name, value in _fields(each).items()}
        assert fields.get("address") == "127.0.0.1"
    assert rows().get(reason) == row(reason, answer, lines[0].getMessage())


def _fields(argument: object) -> dict[str, str]:
    found: Callable[[], dict[str, str]] | None = getattr(argument, "log_fields", None)
    return found() if found else {}


def test_the_table_has_all_of_them_and_no_other() -> None:
    assert list(rows()) == list(REFUSED)
    assert {kind for kind, _ in KINDS.values()} <= set(REFUSED)


async def test_an_event_stream_is_refused_in_the_same_words(caplog: pytest.LogCaptureFixture) -> None:
    async with ground({}) as place:
        assert await _large_stream(place) == "413: The request has more than 65536 bytes."
        assert place.node.metrics.refusals == {"message_size": 1}
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{place.port}/connection/uni_sse", headers={"Origin": EVIL})
        assert (answer.status_code, "client.allowed_origins" in answer.text) == (403, True)
        assert place.node.metrics.refusals == {"message_size": 1, "origin": 1}
    assert "127.0.0.1: request of more than 65536 bytes to /connection/uni_sse refused" in caplog.text


@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
@pytest.mark.parametrize("head", [b"GET %b HTTP/1.0\r\nHost: x\r\n\r\n", None], ids=["without Upgrade", "with it"])
async def test_a_proxy_that_speaks_http_1_0_is_named(
    path: str, head: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """As nginx does unless it is told otherwise, which then leaves out Upgrade as well."""
    request = head % path.encode() if head else upgrade_request(path).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with ground({}) as place, place.peer(request) as peer:
        assert b" 426 " in await peer.head()
        rest = await peer.rest()
    assert b"It has come as HTTP/1.0" in rest
    assert (b"no header Upgrade" in rest) is (head is not None)
    [line] = [each for each in caplog.records if getattr(each, "reason", "") == "upgrade"]
    assert f"no WebSocket is opened at {path}" in line.getMessage()
    assert "It has come as HTTP/1.0" in line.getMessage()


async def test_a_handshake_that_is_passed_over_is_told_why() -> None:
    request = upgrade_request(PATH, b"Content-Length: 3", b"Connection: close, Upgrade") + b"abc"
    async with ground({}) as place, place.peer(request) as peer:
        assert b" 426 " in await peer.head()
        assert b"without a body" in await peer.rest()


async def test_with_a_slash_behind_it_is_the_same_place() -> None:
    async with ground({}) as place, place.peer(upgrade_request(f"{PATH}/")) as peer:
        assert b" 101 " in await peer.head()


async def test_the_address_is_that_which_a_proxy_tells(caplog: pytest.LogCaptureFixture) -> None:
    async with ground({}) as place:
        headers = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}
        async with place.client(additional_headers=headers) as opened:
            await opened.send("nonsense")
            assert await ended(opened) == "3501 bad request"
        [line] = [each for each in caplog.records if getattr(each, "reason", "") == "bad_command"]
        assert " 203.0.113.9: closed with 3501" in line.getMessage()


async def test_it_is_so_of_a_handshake_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Unless its headers make no sense: then nobody knows what of it the proxy has written."""
    forwarded = b"X-Forwarded-For: 6.6.6.6, 203.0.113.9"
    for headers, told, why in (
        ((forwarded,), "203.0.113.9", "Sec-WebSocket-Version must be 13."),
        ((forwarded, b"of no name"), "127.0.0.1", "Invalid header."),
    ):
        caplog.clear()
        request = upgrade_request(PATH, *headers).replace(b"Version: 13", b"Version: 8")
        async with ground({}) as place, place.peer(request) as peer:
            assert (await peer.rest()).endswith(f"\r\n\r\n{why}\n".encode())
        [line] = [each for each in caplog.records if getattr(each, "reason", "") == "handshake"]
        assert line.getMessage() == f"{told}: no WebSocket is opened: {why}"


async def test_an_attack_is_one_line_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    async with ground({}) as place:
        for _ in range(20):
            await _foreign(place)
        assert place.node.metrics.refusals == place.node.metrics.refused_connections == {"origin": 20}
    assert len([each for each in caplog.records if getattr(each, "reason", "") == "origin"]) == 1


async def test_access_lines_of_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    for wanted in (True, False):
        caplog.clear()
        async with ground({"log": {"access": wanted}}) as place:
            async with place.client() as client:
                assert "connect" in await reply(client, {"connect": {"token": token()}})
            await until(lambda place=place: place.node.metrics.disconnects.total())  # type: ignore[misc]  # of this turn
        lines = [each.getMessage() for each in caplog.records if each.name == "gateway.access"]
        if wanted:
            begun, over = lines
            assert re.fullmatch(r"client [0-9a-f-]{36} user 'bob' 127\.0\.0\.1: connected", begun)
            assert re.fullmatch(r"client \S+ user 'bob' 127\.0\.0\.1: ended after \d+\.\d s with 1000 ''", over)
        else:
            assert lines == []


async def test_where_websockets_are_opened_is_told_whole(caplog: pytest.LogCaptureFixture) -> None:
    given = {"http_server": {"root_path": "/gw"}, "uni_websocket": {"enabled": True}}
    async with ground(given) as place, place.peer(upgrade_request("/elsewhere")) as peer:
        assert b" 404 " in await peer.head()
        rest = await peer.rest()
    assert b"but at /gw/connection/websocket or /gw/connection/uni_websocket.\n" in rest
    assert b"http_server.root_path, which is /gw now.\n" in rest
    [line] = [each for each in caplog.records if "no WebSocket" in each.getMessage()]
    assert "/gw/connection/websocket or /gw/connection/uni_websocket; a prefix" in line.getMessage()
    assert line.getMessage().endswith("http_server.root_path, which is /gw now")
