"""The server API as one endpoint, as clients call it that know no other."""

import json
from typing import Any

import httpx
import pytest

from gateway.web.one_endpoint import NUMBERS
from tests.web.conftest import API, KEY


async def call(api: API, *commands: Any, headers: dict[str, str] | None = None) -> list[Any]:
    body = "\n".join(command if isinstance(command, str) else json.dumps(command) for command in commands)
    response = await post(api, body, headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    return [json.loads(line) for line in response.text.split("\n")]


async def post(api: API, body: str | bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return await api.http.post("/api", content=body, headers=headers or {"X-API-Key": KEY})


async def test_commands_are_answered_in_their_order_a_line_each(api: API) -> None:
    params = {"channel": "kept:a", "data": {"two\nlines": None}}
    first, second, third = await call(
        api,
        {"id": 1, "method": "publish", "params": params},
        {"id": 2, "method": "history", "params": {"channel": "nowhere:a"}},
        {"method": "history", "params": {"channel": "kept:a", "limit": 1}},
    )
    assert (first["id"], first["result"]["offset"]) == (1, 1)
    assert second == {"id": 2, "error": {"code": 102, "message": "unknown channel"}}
    assert third["result"]["publications"] == [{"data": {"two\nlines": None}, "offset": 1}]


@pytest.mark.parametrize("between", ["", " ", "\n", "\r\n\t\n"])
async def test_they_may_stand_anyhow_behind_each_other(api: API, between: str) -> None:
    command = '{"method":"publish","params":{"channel":"kept:a","data":[1e400,"}{\\""]}}'
    response = await post(api, between + between.join([command] * 3) + between)
    assert [json.loads(line)["result"]["offset"] for line in response.text.split("\n")] == [1, 2, 3]


async def test_methods_have_numbers(api: API) -> None:
    assert len(NUMBERS) == 13
    for number in (*range(13), 13, -1, 40):
        [answer] = await call(api, {"method": number, "params": {"channel": "shown:a", "data": 1, "user": "ann"}})
        named = NUMBERS[number] if 0 <= number < 13 else "none"
        if named in ("rpc", "none", "broadcast", "history", "history_remove"):
            code = {"rpc": 107, "none": 104, "broadcast": 107}.get(named, 108)
            assert answer["error"]["code"] == code, number
        else:
            assert "result" in answer, number


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"[]",
        b'{"method":"weather"}',
        b'{"method":"batch","params":{"commands":[]}}',
        b'{"method":7.5}',
        b'{"method":true}',
        b'{"id":-1,"method":"info"}',
        b'{"id":4294967296,"method":"info"}',
        b'{"method":"publish","params":{"channel":"kept:a","data":1}} x',
        b'{"method":"publish","params":{"channel":"kept:a","data":1}},{"method":"info"}',
        b'{"method":"publish","params":{"channel":"kept:a","data":1}}\n{"method":',
        b'{"method":"publish","params":{"channel":"kept:a","data":1}}\n{"method":"weather"}',
        b'{"method":"publish","params":{"channel":"kept:a","data":"\xff"}}',
        b'{"method":"publish","params":{"channel":"kept:a","data":NaN}}',
        b'{"method":"publish","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"method":"publish","params":{"channel":"kept:a","data":%b}}' % (b"9" * 100_000) + b"x",
    ],
    ids=lambda body: body[:60],
)
async def test_a_body_that_cannot_be_read_does_nothing(api: API, body: bytes) -> None:
    response = await post(api, body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == 107
    assert (await api.result("history", channel="kept:a"))["offset"] == 0


async def test_it_needs_the_key_and_a_post(api: API) -> None:
    assert (await post(api, '{"method":"info"}', {"X-API-Key": "wrong"})).status_code == 401
    assert (await api.http.get("/api", headers={"X-API-Key": KEY})).status_code == 405


async def test_calls_are_measured_and_errors_counted(api: API) -> None:
    await call(
        api, {"method": "presence_stats", "params": {"channel": "shown:a"}}, {"method": "publish"}, {"method": 99}
    )
    metrics = api.node.metrics
    assert {name: sum(each.counts) for name, each in metrics.api_time.items()} == {"presence_stats": 1, "publish": 1}
    assert metrics.api_errors == {("publish", 107): 1}


async def test_many_commands_are_worked_on_in_chunks(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.one_endpoint.CHUNK", 2)
    answers = await call(api, *({"id": n, "method": "channels"} for n in range(1, 6)))
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4, 5]
