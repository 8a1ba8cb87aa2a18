"""The method of the server API that tells values before a backend is polled for them: what it takes."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.web.conftest import API, BACKEND, POLLS, SETTINGS, running
from tests.web.test_one_endpoint import call

POLLED: dict[str, Any] = {"subscription_type": "shared_poll"}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "price", **POLLED, "shared_poll": {"mode": "versioned", "publish_enabled": True}},
    {"name": "polled", **POLLED, "shared_poll": {"mode": "versioned"}},
    {"name": "plain"},
]
GOOD: dict[str, Any] = {"channel": "price:a", "key": "k", "version": 1, "data": {"eur": 6}}


@pytest.fixture
async def api() -> AsyncIterator[API]:
    async with running({**SETTINGS, **POLLS, "channel": {"namespaces": NAMESPACES, **BACKEND}}) as api:
        yield api


async def test_it_is_done_whether_anybody_tracks_the_key_or_not(api: API) -> None:
    assert await api.result("shared_poll_publish", **GOOD) == {}
    more = {"data": None, "b64data": base64.b64encode(b"\xff").decode(), "version": 2**63 - 1, "epoch": "e"}
    assert await api.result("shared_poll_publish", **GOOD | more) == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"channel": ""}, 107),
        ({"channel": "nowhere:a"}, 102),
        ({"channel": "plain:a"}, 107),
        ({"channel": "polled:a"}, 108),
        ({"channel": "nowhere:a", "key": ""}, 107),
        ({"channel": "polled:a", "b64data": "?"}, 108),
        ({"key": ""}, 107),
        ({"version": 0}, 107),
        ({"key": "k" * 65537}, 107),
        ({"epoch": "k" * 65537}, 107),
        ({"b64data": "?"}, 107),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_missing_or_wrong(api: API, changes: dict[str, Any], code: int) -> None:
    assert (await api.error("shared_poll_publish", **{**GOOD, **changes}))["code"] == code


async def test_it_needs_data(api: API) -> None:
    without = {name: value for name, value in GOOD.items() if name != "data"}
    assert (await api.error("shared_poll_publish", **without))["code"] == 107


async def test_it_has_a_number_and_a_place_in_a_batch(api: API) -> None:
    assert await call(api, {"id": 1, "method": 39, "params": GOOD}) == [{"id": 1, "result": {}}]
    commands = [{"shared_poll_publish": GOOD}, {"shared_poll_publish": {}}]
    answer = await api.post("batch", json.dumps({"commands": commands}))
    first, second = answer.json()["replies"]
    assert first == {"shared_poll_publish": {}}
    assert second["error"]["code"] == 107
