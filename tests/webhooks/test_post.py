"""Requests to webhooks, over real connections."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.apps.signatures import sign_body
from gateway.metrics import Metrics
from gateway.outbox.base import Event
from gateway.webhooks.post import Failed, Post, headers_of
from gateway.webhooks.targets import targets_of
from tests.ports import free_port
from tests.proxies.backend import Backend, Raw, backend_running
from tests.webhooks.rig import an_app

NOW = 1_760_000_000.123


def an_event(number: int = 1, **fields: Any) -> Event:
    body = json.dumps({"name": "channel_occupied", "channel": "private-orders.7", **fields}).encode()
    return Event(b"%d\n\n%b" % (number, body))


@pytest.fixture
async def receiver() -> AsyncIterator[Backend]:
    async with backend_running() as backend:
        yield backend


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    made = Post(Metrics(), lambda: NOW, time.monotonic)
    yield made
    await made.close()


async def test_what_a_receiver_gets(receiver: Backend, post: Post) -> None:
    app = an_app(webhooks=[{"url": f"{receiver.url}/hook?token=1", "static_headers": {"Authorization": "Bearer x"}}])
    [target] = targets_of(app)
    await post.send(target, [an_event(7), an_event(8, channel="b")], 3, within=5)
    [asked] = receiver.asked
    assert asked.path == "/hook?token=1"
    assert asked.body == {
        "time_ms": 1_760_000_000_123,
        "events": [
            {"name": "channel_occupied", "channel": "private-orders.7"},
            {"name": "channel_occupied", "channel": "b"},
        ],
    }
    expected = {
        "Content-Type": "application/json",
        "X-Pusher-Key": "key9001",
        "X-Gateway-Delivery": "7,8",
        "X-Gateway-Attempt": "3",
        "Authorization": "Bearer x",
    }
    assert {name: asked.header(name) for name in expected} == {name: [value] for name, value in expected.items()}
    [signature] = asked.header("X-Pusher-Signature")
    assert len(signature) == 64
    assert post._metrics.webhook_requests == {"told": 1}


def test_the_signature_is_of_the_very_bytes() -> None:
    body = b'{"time_ms":1760000000123,"events":[{"name":"channel_occupied","channel":"private-orders.7"}]}'
    [target] = targets_of(an_app())
    signature = headers_of(target, body, [an_event()], 1)["X-Pusher-Signature"]
    assert signature == "b463fb7cbce83dc70149631d8ecee5ef380bdc5253c8e78c9f103520d318b5f4"
    assert signature == sign_body("s3cr3t-example", body)
    assert signature == hmac.new(b"s3cr3t-example", body, hashlib.sha256).hexdigest()


def test_headers_of_the_app_do_not_take_the_place_of_ours() -> None:
    hook = {"url": "http://x", "static_headers": {"x-pusher-signature": "forged", "X-Other": "1"}}
    [target] = targets_of(an_app(webhooks=[hook]))
    headers = headers_of(target, b"{}", [an_event()], 1)
    assert [name for name in headers if name.lower() == "x-pusher-signature"] == ["X-Pusher-Signature"]
    assert headers["X-Other"] == "1"


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_every_status_of_success_is_one(receiver: Backend, post: Post, status: int) -> None:
    receiver.answers["/"] = [Raw(status, b"")]
    [target] = targets_of(an_app("1", receiver.url + "/"))
    await post.send(target, [an_event()], 1, within=5)


@pytest.mark.parametrize("status", [300, 302, 400, 404, 429, 500])
async def test_every_other_status_is_none(receiver: Backend, post: Post, status: int) -> None:
    receiver.answers["/"] = [Raw(status, b"{}", {"Location": receiver.url + "/other"})]
    [target] = targets_of(an_app("1", receiver.url + "/"))
    with pytest.raises(Failed) as failed:
        await post.send(target, [an_event()], 1, within=5)
    assert failed.value.kind == "status"
    assert receiver.of("/other") == []  # a redirect is not followed


async def test_who_does_not_answer_in_time_has_failed(receiver: Backend, post: Post) -> None:
    receiver.hold()
    [target] = targets_of(an_app("1", receiver.url))
    with pytest.raises(Failed, match=r"no answer within 0\.05 s"):
        await post.send(target, [an_event()], 1, within=0.05)
    assert post._metrics.webhook_requests == {"timeout": 1}


async def test_nobody_there_and_bad_answers_have_failed_and_no_secret_is_told(receiver: Backend, post: Post) -> None:
    receiver.answers["/torn"] = [Raw(0, b"HTTP/1.1 secret\r\n")]
    receiver.answers["/gone"] = [Raw(body=None)]
    nobody = f"http://user:hunter2@127.0.0.1:{free_port()}/?token=hunter2"
    for url in (nobody, f"{receiver.url}/torn", f"{receiver.url}/gone", "http://[hunter2"):
        [target] = targets_of(an_app("1", url))
        with pytest.raises(Failed) as failed:
            await post.send(target, [an_event()], 1, within=5)
        assert failed.value.kind == "connection"
        assert "hunter2" not in str(failed.value) + target.shown.replace("[hunter2", "")
        assert "secret" not in str(failed.value)


async def test_connections_are_kept(receiver: Backend, post: Post, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    [target] = targets_of(an_app("1", receiver.url))
    for attempt in range(3):
        await post.send(target, [an_event()], attempt, within=5)
    assert receiver.connections == 1
