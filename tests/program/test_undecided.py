"""Clients that only listen, whose connect the program does not decide in time: they have no reply to hear it by."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway import Gateway, Settings
from gateway.errors import DisconnectCode
from gateway.transports.stream_kinds import OCTETS, UNI_HTTP_STREAM, UNI_SSE, StreamKind
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.transports.sockets import Peer, upgrade_request
from tests.waiting import until

SERVERS = pytest.mark.parametrize("serve", [on_uvicorn, on_plain_uvicorn], ids=lambda serve: serve.__name__)
STREAMS = pytest.mark.parametrize(
    ("kind", "content_type"), [(UNI_SSE, ""), (UNI_HTTP_STREAM, ""), (UNI_HTTP_STREAM, OCTETS)], ids=str
)
HELD = {"enabled": True, "transforms": [{"code": 100, "to": {"status_code": 503, "body": "later"}}]}


class Undecided:
    """A program that decides when it is told to."""

    def __init__(self, **sections: Any) -> None:
        enabled = {name: {"enabled": True, **section} for name, section in sections.items()}
        self.gateway = Gateway(Settings.model_validate({"client": {"connect_timeout": 0.1}, **enabled}))
        self.go_on = asyncio.Event()
        self.log: list[str] = []
        self.gateway.on_connect(self._connect)
        self.gateway.on_disconnect(self._disconnect)
        self.app = FastAPI(lifespan=self.gateway.lifespan)
        self.app.include_router(self.gateway.router)

    async def _connect(self) -> str:
        await self.go_on.wait()
        self.log.append("let in")
        return "ann"

    async def _disconnect(self) -> None:
        self.log.append("gone")

    async def ends(self) -> None:
        """The client has been told before it was decided, and nothing is left of it when it is."""
        assert self.log == []
        self.go_on.set()
        await until(lambda: self.log == ["let in", "gone"])
        await until(lambda: not self.gateway.running.acceptor.sessions)


@SERVERS
@STREAMS
async def test_a_stream_ends_with_the_reason(
    serve: Serve, kind: StreamKind, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = Undecided(**{kind.name: {}})
    async with serve(program.app, program.gateway.settings) as port, httpx.AsyncClient() as http:
        body = b"" if content_type else b"{}"
        url, headers = f"http://127.0.0.1:{port}{kind.path}", {"Content-Type": content_type}
        answer = await http.post(url, content=body, headers=headers)
        assert answer.status_code == 200
        reason = DisconnectCode.INTERNAL.reason
        if content_type:
            assert reason.encode() in answer.content
        else:
            told = json.loads(answer.text.strip().removeprefix("data: "))
            assert told == {"disconnect": {"code": DisconnectCode.INTERNAL, "reason": reason}}
        await program.ends()
    assert [each.levelno for each in caplog.records if each.name.startswith("gateway.")] == [logging.WARNING]


@SERVERS
@STREAMS
async def test_a_stream_that_is_held_is_refused(serve: Serve, kind: StreamKind, content_type: str) -> None:
    program = Undecided(**{kind.name: {"connect_code_to_http_response": HELD}})
    async with serve(program.app, program.gateway.settings) as port, httpx.AsyncClient() as http:
        body = b"" if content_type else b"{}"
        url, headers = f"http://127.0.0.1:{port}{kind.path}", {"Content-Type": content_type}
        answer = await http.post(url, content=body, headers=headers)
        assert (answer.status_code, answer.text) == (503, "later")
        await program.ends()


@SERVERS
async def test_a_websocket_is_closed_with_the_reason(serve: Serve) -> None:
    program = Undecided(uni_websocket={"disable_disconnect_push": True})
    async with serve(program.app, program.gateway.settings) as port:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        peer.write(upgrade_request("/connection/uni_websocket?cf_connect=%7B%7D"))
        assert b" 101 " in await peer.head()
        opcode, payload = await peer.frame()
        code = int.from_bytes(payload[:2])
        assert (opcode, code, payload[2:]) == (8, DisconnectCode.INTERNAL, DisconnectCode.INTERNAL.reason.encode())
        await program.ends()
        peer.writer.transport.abort()
