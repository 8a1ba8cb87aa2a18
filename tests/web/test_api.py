"""The server API over HTTP: keys, bodies, batches, and the document that describes it."""

import json
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.messages import Payload, Position, Publication
from gateway.web import api as module
from gateway.web.methods import METHODS
from tests.web.conftest import API, KEY, SETTINGS, running

# — keys —


async def test_a_key_may_come_in_three_ways(api: API) -> None:
    for headers in ({"X-API-Key": KEY}, {"Authorization": f"apikey {KEY}"}, {"Authorization": f"ApiKey  {KEY}"}):
        assert (await api.post("info", headers=headers)).status_code == 200, headers
    assert (await api.http.post("/api/info", params={"api_key": KEY}, content=b"{}")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": KEY + "x"},
        {"Authorization": KEY},
        {"Authorization": f"bearer {KEY}"},
        {"X-API-Key": "wrong", "Authorization": f"apikey {KEY}"},  # the first present counts
    ],
)
async def test_callers_without_the_key_are_turned_away(api: API, headers: dict[str, str]) -> None:
    for method in (*METHODS, "batch"):
        assert (await api.post(method, headers=headers)).status_code == 401, method


async def test_they_are_told_nothing(api: API) -> None:
    response = await api.post("info", headers={})
    assert (response.status_code, response.content) == (401, b"")


async def test_a_key_may_have_any_letters() -> None:
    async with running({"http_api": {"key": "schlüssel?"}}) as api:
        url = "/api/info"
        assert (await api.http.post(url, headers={b"X-API-Key": "schlüssel?".encode()}, content=b"{}")).is_success
        assert (await api.http.post(url, params={"api_key": "schlüssel?"}, content=b"{}")).is_success
        assert (await api.http.post(url, params={"api_key": "schlüssel鍵"}, content=b"{}")).status_code == 401


async def test_without_a_key_nobody_may_call() -> None:
    async with running({}) as api:
        for headers in ({}, {"X-API-Key": ""}, {"Authorization": "apikey "}):
            assert (await api.post("info", headers=headers)).status_code == 401


async def test_everybody_may_call_where_that_is_wanted() -> None:
    async with running({"http_api": {"insecure": True}}) as api:
        assert (await api.post("info", headers={})).status_code == 200


# — bodies —


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"channel":1,"data":{}}',
        b'{"channel":"kept:a","data":{},"tags":{"a":1}}',
        b'{"channel":"kept:a","data":"\xff"}',
        b'{"channel":"kept:\xff","data":{}}',
        b'{"channel":"kept:a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"channel":"kept:a","data":{}} and more',
    ],
    ids=lambda body: body[:30],
)
async def test_a_body_that_is_no_request_is_refused(api: API, body: bytes) -> None:
    response = await api.post("publish", body)
    assert response.status_code == 400
    assert response.json()


async def test_a_body_has_a_limit(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_LIMIT", 100)
    fits = json.dumps({"channel": "kept:a", "data": ""})
    assert (await api.post("publish", fits.replace('""', f'"{"x" * (100 - len(fits))}"'))).status_code == 200
    assert (await api.post("publish", fits.replace('""', f'"{"x" * (101 - len(fits))}"'))).status_code == 413


async def test_only_post_and_only_known_methods(api: API) -> None:
    headers = {"X-API-Key": KEY}
    assert (await api.http.get("/api/publish", headers=headers)).status_code == 405
    assert (await api.post("connections")).status_code == 404


@pytest.mark.parametrize("settings", [{}, {"error_mode": "transport"}])
async def test_errors_by_status(settings: dict[str, Any]) -> None:
    headers = {"X-API-Key": KEY}
    if not settings:
        headers["X-Centrifugo-Error-Mode"] = "transport"
    async with running({**SETTINGS, "http_api": {"key": KEY, **settings}}) as api:
        top = await api.node.publish(api.node.channels.resolve("kept:a"), Publication(Payload(b"{}")))
        for status, code, method, request in (
            (404, 102, "publish", {"channel": "nowhere:a", "data": {}}),
            (400, 107, "publish", {"data": {}}),
            (400, 108, "history", {"channel": "room"}),
            (416, 112, "history", {"channel": "kept:a", "since": {"offset": 1, "epoch": f"not {top.epoch}"}}),
        ):
            response = await api.post(method, json.dumps(request), headers)
            assert (response.status_code, response.json()["code"]) == (status, code)
        assert (await api.post("info", headers=headers)).json()["result"]


async def test_a_broker_that_is_away_is_a_temporary_error(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(*_: object) -> Position:
        raise BrokerUnavailable

    monkeypatch.setattr(api.node.broker, "publish", publish)
    error = await api.error("publish", channel="room", data={})
    assert (error["code"], error["temporary"]) == (100, True)
    headers = {"X-API-Key": KEY, "X-Centrifugo-Error-Mode": "transport"}
    assert (await api.post("publish", '{"channel":"room","data":1}', headers)).status_code == 500


async def test_who_publishes_is_told_whether_it_may_be_stored(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(*_: object) -> Position:
        raise BrokerUnavailable(stored="maybe")

    monkeypatch.setattr(api.node.broker, "publish", publish)
    error = await api.error("publish", channel="room", data={})
    assert error["message"].startswith("may have been published: ")
    assert (error["code"], error["temporary"]) == (100, True)
    answer = await api.answer("broadcast", channels=["room"], data={})
    assert answer["result"]["responses"][0]["error"]["message"].startswith("may have been published: ")


# — batch —


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_answers_in_order(api: API, parallel: bool) -> None:
    commands: list[Any] = [
        {"publish": {"channel": "kept:a", "data": 1}},
        {},
        {"publish": {"channel": "nowhere:a", "data": 1}},
        {"presence_stats": {"channel": "shown:a"}, "info": {}},
        {"weather": {}},
        {"batch": {"commands": []}},
        {"publish": {"channel": 7}},
        {"publish": None},
        {"presence_stats": {"channel": "shown:a"}},
    ]
    answer = await api.answer("batch", commands=commands, parallel=parallel)
    assert list(answer) == ["replies"]
    replies = answer["replies"]
    assert replies[0]["publish"]["offset"] == 1
    assert [reply["error"]["code"] for reply in replies[1:8]] == [104, 102, 107, 104, 104, 107, 104]
    assert replies[8] == {"presence_stats": {"num_clients": 0, "num_users": 0}}


async def test_calls_are_measured_and_errors_counted(api: API) -> None:
    await api.result("publish", channel="kept:a", data=1)
    await api.error("publish", channel="none:a", data=1)
    await api.post("batch", json.dumps({"commands": [{"publish": {"channel": "kept:a", "data": 1}}, {"info": {}}]}))
    await api.post("publish", b"no request")
    metrics = api.node.metrics
    assert {name: sum(each.counts) for name, each in metrics.api_time.items()} == {"publish": 3, "info": 1}
    assert metrics.api_errors == {("publish", 102): 1}


async def test_an_empty_batch(api: API) -> None:
    assert await api.answer("batch") == await api.answer("batch", commands=[]) == {"replies": []}
    assert (await api.post("batch", b'{"commands":[7]}')).status_code == 400


# — the document —


async def test_the_document_describes_every_method(api: API) -> None:
    document = (await api.http.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    names = {path.removeprefix("/api/") for path in document["paths"] if path.startswith("/api/")}
    assert names == {*METHODS, "batch"}
    identifiers = set()
    for name in names:
        operation = document["paths"][f"/api/{name}"]["post"]
        identifiers.add(operation["operationId"])
        assert operation["summary"]
        assert operation["security"] == [{"APIKeyHeader": []}, {"Authorization": []}, {"APIKeyQuery": []}]
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        assert request["type"] == "object"
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(answer["properties"]) == ({"replies"} if name == "batch" else {"result", "error"})
    assert len(identifiers) == len(names)
    assert "$ref" not in json.dumps([document["paths"][f"/api/{name}"] for name in METHODS])
    publish = document["paths"]["/api/publish"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"channel", "data", "b64data", "tags", "idempotency_key", "skip_history"} <= set(publish["properties"])
