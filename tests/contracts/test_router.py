"""The document and the page, as they are served."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

from gateway import Gateway, Settings
from gateway.contracts.contract import Contract
from gateway.contracts.page import page
from gateway.contracts.reading import contract_of
from gateway.contracts.router import contracts_router
from tests.contracts.program import gateway

VOID = {"meta", "link", "br"}


class Elements(HTMLParser):
    """Checks that elements close in the order in which they were opened, and keeps what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        self.targets.add(found.get("href") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    app = FastAPI()
    app.include_router(contracts_router(lambda: contract_of(gateway._program, gateway.settings)), prefix="/live")
    async with AsyncClient(transport=ASGITransport(app), base_url="https://chat.example.com") as client:
        yield client


async def test_the_document_names_the_address_at_which_it_was_found(client: AsyncClient) -> None:
    answer = await client.get("/live/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    server = answer.json()["servers"]["gateway"]
    assert (server["host"], server["pathname"], server["protocol"]) == (
        "chat.example.com",
        "/live/connection/websocket",
        "wss",
    )


async def test_a_host_that_cannot_be_one_is_not_repeated(client: AsyncClient) -> None:
    answer = await client.get("/live/asyncapi.json", headers={"host": "a<b>"})
    assert answer.json()["servers"]["gateway"]["host"] == "127.0.0.1:9000"


async def test_the_routes_are_no_part_of_the_http_api(client: AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["paths"] == {}


async def test_the_contract_is_read_once() -> None:
    asked: list[str] = []

    def find() -> Contract:
        asked.append("")
        return contract_of(gateway._program, gateway.settings)

    app = FastAPI()
    app.include_router(contracts_router(find))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://a") as client:
        for path in ("/asyncapi", "/asyncapi.json", "/asyncapi.json"):
            assert (await client.get(path)).status_code == 200
    assert len(asked) == 1


async def test_the_page_is_allowed_its_style_and_nothing_else(client: AsyncClient) -> None:
    answer = await client.get("/live/asyncapi")
    [style] = re.findall("<style>(.*?)</style>", answer.text, re.DOTALL)
    expected = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"style-src 'sha256-{expected}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    elements = Elements(answer.text)
    assert not elements.seen & {"script", "link", "img", "iframe", "form"}
    assert not [target for target in elements.targets if target.startswith(("http", "//"))]


async def test_the_page_holds_together(client: AsyncClient) -> None:
    text = (await client.get("/live/asyncapi")).text
    elements = Elements(text)
    assert elements.open == []
    links = {target[1:] for target in elements.targets if target.startswith("#")}
    assert {"ChatMessageInput", "ChatMessageOutput", "Room", "Color"} <= links <= elements.ids
    assert "asyncapi.json" in elements.targets
    assert "wss://chat.example.com/live/connection/websocket" in text


async def test_the_page_tells_of_everything(client: AsyncClient) -> None:
    text = re.sub(r"<[^>]*>", " ", (await client.get("/live/asyncapi")).text)
    for word in ("chat:{room}", "orders:{number:int}", "admin/close-room", "presence, history", "You publish"):
        assert word in text
    for sentence in (
        "Anybody with a name may come in.",
        "Everybody in the room hears it.",
        "The rooms that there are.",
    ):
        assert text.count(sentence) == 1


def test_what_a_program_says_is_text() -> None:
    program = Gateway(Settings.model_validate({"asyncapi": {"title": "<b>Title</b>", "version": '1"<i>'}}))

    class Sly(BaseModel):
        """<script>alert(1)</script>"""

        field: str

    route = program.channel("<img>:{x}", message=Sly)

    @route.on_subscribe
    async def join(x: str) -> None:
        """<u>Come in.</u>"""

    @program.rpc("<a href=x>")
    async def call() -> Any:
        """<s>Call.</s>"""

    text = page(contract_of(program._program, program.settings))
    assert not Elements(text).seen & {"b", "i", "script", "img", "u", "s"}
    assert "<a href=x>" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 1


def test_a_program_of_nothing_has_a_page() -> None:
    program = Gateway(Settings())
    text = page(contract_of(program._program, program.settings))
    assert Elements(text).open == []
    assert re.findall("<h2>(.*?)</h2>", text) == ["Errors"]
