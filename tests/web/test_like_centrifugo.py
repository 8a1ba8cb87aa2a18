"""The same requests are answered as Centrifugo answers them, but for those where that is not wanted.

``centrifugo.json`` is what v6.9.1 has been seen to answer, one request after the other, with `SETTINGS`.
"""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.web.conftest import KEY, running

SEEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "centrifugo.json").read_text())

KEPT = {"history_size": 10, "history_ttl": "60s"}
SETTINGS: dict[str, Any] = {
    "http_api": {"key": KEY},
    "channel": {
        "namespaces": [
            {"name": "kept", **KEPT},
            {"name": "shown", "presence": True, **KEPT},
            {"name": "objects", "publication_data_format": "json_object"},
            {"name": "strict", "publication_data_format": "json"},
            {"name": "re", "channel_regex": "^[a-z]+$", **KEPT},
        ]
    },
}

NO_USER = "an empty user means the anonymous clients, so that it must be there"
NO_OBJECT = "a request is an object"
OTHERS: dict[str, dict[str, str]] = {
    "/api/publish": {
        '{"channel": "a\\nb", "data": 1}': "no name has control characters",
        "null": NO_OBJECT,
    },
    "/api/subscribe": {
        '{"channel": "kept:a"}': NO_USER,
        '{"user": "u", "channel": "kept:a", "expire_at": 1}': "there 100, and where the user has a connection alone",
    },
    "/api/unsubscribe": {
        "{}": NO_USER,
        '{"user": "u"}': "there a push without a channel",
        '{"channel": "room"}': NO_USER,
    },
    "/api/disconnect": {
        "{}": NO_USER,
        '{"user": "u", "disconnect": {"code": 1000, "reason": "x"}}': "it is no code of a server's",
    },
    "/api/refresh": {"{}": NO_USER},
    "/api/history": {
        '{"channel": "kept:a", "since": {"offset": 0}, "limit": 5, "reverse": true}': "the caller's fault, not ours",
        '{"channel": "kept:b", "limit": -1}': "publications show their version",
    },
    "/api/channels": {'{"pattern": "["}': "a pattern without end is taken letter for letter"},
    "/api/batch": {
        "{}": "there are replies always",
        '{"commands": null}': "there are replies always",
        '{"commands": []}': "there are replies always",
        '{"commands": [{"publish": {"channel": "kept:q", "data": 1}, "info": {}}]}': "which of both, nobody knows",
        '{"commands": [{"publish": {"channel": 1}}]}': "one command does not spoil the others",
        '{"commands": [null]}': "as one without method",
    },
    "/api": {
        '{"method":8}': "nothing is missing",
        '{"params":{"channel":"kept:m","data":1}}': "nothing is published that does not say so",
        "null": NO_OBJECT,
    },
}
"""Requests that are answered in another way, with the reason."""
DIFFERENT = [(path, body) for path, bodies in OTHERS.items() for body in bodies]


def plain(value: Any) -> Any:
    """Without what differs from one run to the next, and without what an error says behind their words."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if {"code", "message"} <= value.keys():
        return {"code": value["code"], "message": value["message"].partition(":")[0]}
    return {name: "EPOCH" if name == "epoch" and found else plain(found) for name, found in value.items()}


def read(response: httpx.Response) -> list[Any]:
    return [plain(json.loads(line)) for line in response.text.split("\n")]


async def test_answers_are_the_same() -> None:
    differ: list[tuple[str, str]] = []
    async with running(SETTINGS) as api:
        for seen in SEEN:
            headers = {"X-API-Key": KEY} | ({"X-Centrifugo-Error-Mode": "transport"} if "by_status" in seen else {})
            response = await api.http.post(seen["path"], content=seen["body"].encode(), headers=headers)
            same = response.status_code == seen["status"]
            if same and "answer" in seen:
                same = read(response) == seen["answer"]
            if not same:
                differ.append((seen["path"], seen["body"]))
    assert differ == DIFFERENT
