"""Which calls are an app's own: signatures, statuses, and the limits of what strangers may cost."""

import logging
from typing import Any

import pytest

from gateway.apps.signatures import sign, sign_request
from gateway.errors import Error, ErrorCode
from tests.web.pusher.conftest import BARE, DISABLED, KEY, LOADED, OBJECTS, PLAIN, SECRET, SHOP, SMALL, Backend, done

TIME = "1760000000"
EVENT = b'{"name":"order.paid","channels":["private-orders.7"],"data":"{\\"id\\":7}"}'
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
SIGNED = {"auth_key": KEY, "auth_timestamp": TIME, "auth_version": "1.0"}


async def at_vectors(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.kit.gateway.node, "clock", lambda: float(TIME))


async def test_the_vector_of_an_event(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    await at_vectors(backend, monkeypatch)
    query = {
        **SIGNED,
        "body_md5": "1a55f56f8fa821ec2d124ab963b68e75",
        "auth_signature": "6dd7388571ea60f3d76a74865a2fe2e2fe3cd441532257cc065fa7e68f37f983",
    }
    assert done(await backend.raw("POST", "/apps/9001/events", EVENT, list(query.items()))) == {}
    other = await backend.raw("POST", "/apps/9001/events", EVENT.replace(b"7}", b"8}"), list(query.items()))
    assert other.status_code == 401


async def test_the_vector_of_a_question(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    await at_vectors(backend, monkeypatch)
    query = {
        **SIGNED,
        "filter_by_prefix": "presence-",
        "info": "user_count",
        "body_md5": EMPTY,
        "auth_signature": "4254a0a04e8aad45e6ee9f276508f692ba719328669122b38ffc6ca3d207b655",
    }
    assert done(await backend.raw("GET", "/apps/9001/channels", b"", list(query.items()))) == {"channels": {}}


async def test_a_former_key_and_an_app_that_is_loaded(backend: Backend) -> None:
    former = [("auth_key", "former"), ("auth_timestamp", str(int(backend.kit.clock()))), ("auth_version", "1.0")]
    text = "GET\n/apps/9001/channels\n" + "&".join(f"{name}={value}" for name, value in former)
    signed = [*former, ("auth_signature", sign("f0rmer", text))]
    assert done(await backend.raw("GET", "/apps/9001/channels", b"", signed)) == {"channels": {}}
    assert await backend.get("channels", LOADED) == {"channels": {}}


async def test_values_may_have_any_letters_of_names(backend: Backend) -> None:
    await backend.join("shop:a=@,.;b")
    assert await backend.get("channels", filter_by_prefix="a=@,.;") == {"channels": {"a=@,.;b": {}}}
    assert await backend.get("channels/a=@,.;b") == {"occupied": True}


async def test_below_a_prefix_the_path_is_signed_without_it(backend: Backend) -> None:
    signed = sign_request(SHOP, "GET", "/apps/9001/channels/%23server-to-user-7", [], b"", backend.kit.clock())
    for prefix in ("", "/below/this"):
        path = f"{prefix}/apps/9001/channels/%23server-to-user-7"
        assert done(await backend.raw("GET", path, b"", signed)) == {"occupied": False}, prefix


async def test_what_is_not_the_apps_own_is_refused(backend: Backend) -> None:
    now = backend.kit.clock()

    def signed(**other: str) -> list[tuple[str, str]]:
        return list({**dict(sign_request(SHOP, "GET", "/apps/9001/channels", [], b"", now)), **other}.items())

    for query, wrong in (
        ([], "auth_key is none of the app's keys"),
        (signed(auth_key=""), "auth_key is none of the app's keys"),
        (signed(auth_key="plain"), "auth_key is none of the app's keys"),
        (signed(auth_version="2.0"), "auth_version must be 1.0"),
        (signed(auth_timestamp="soon"), "auth_timestamp must be the time in seconds"),
        (signed(body_md5=EMPTY[::-1]), "body_md5 is not that of the body"),
        (signed(auth_signature=""), "auth_signature does not match"),
        (signed(auth_signature="é"), "auth_signature does not match"),
        (signed(info="user_count"), "auth_signature does not match"),
    ):
        response = await backend.raw("GET", "/apps/9001/channels", b"", query)
        answer = response.json()
        assert (response.status_code, answer["code"]) == (401, 401), query
        assert answer["message"].startswith(wrong), query
        assert SECRET not in response.text
    old = sign_request(SHOP, "GET", "/apps/9001/channels", [], b"", now - 601)
    assert (await backend.raw("GET", "/apps/9001/channels", b"", old)).status_code == 401


async def test_an_app_that_is_not_there_comes_before_all_that_is_wrong(backend: Backend) -> None:
    for app_id, key, status in (("1", KEY, 404), ("1", "", 404), ("9006", "", 404), ("9002", KEY, 401)):
        response = await backend.raw("GET", f"/apps/{app_id}/channels", b"", [("auth_key", key)])
        assert response.status_code == status, (app_id, key)
    without_id = await backend.raw("POST", "/users/7/terminate_connections", b"{}", [("auth_key", "nobody")])
    assert without_id.status_code == 401


async def test_a_disabled_app_is_forbidden_if_it_asks_itself(backend: Backend) -> None:
    assert await backend.refused("GET", "channels", app=DISABLED) == (403, "the app is disabled")
    response = await backend.raw("GET", "/apps/9003/channels", b"", [("auth_key", "disabled")])
    assert response.status_code == 401


async def test_an_app_of_which_nobody_can_say_is_not_unknown(backend: Backend) -> None:
    backend.apps.failure = Error(ErrorCode.INTERNAL)
    assert await backend.refused("GET", "channels") == (503, "internal server error")


async def test_a_body_that_no_app_can_mean_is_not_read(backend: Backend) -> None:
    response = await backend.send("POST", "events", b"x" * 1_000_000)
    assert response.status_code == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"name":1}', b"\xff", b'{"name":"a","data":NaN}'])
async def test_a_body_that_cannot_be_read_is_a_bad_request(backend: Backend, body: bytes) -> None:
    for path in ("events", "batch_events"):
        status, message = await backend.refused("POST", path, body)
        assert (status, message.startswith("bad request: ")) == (400, True), message


async def test_refusals_are_seen_and_signatures_are_not(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    node = backend.kit.gateway.node
    with caplog.at_level(logging.WARNING, "gateway.refusals"):
        await backend.refused("GET", "channels", app=DISABLED)
    assert node.metrics.refusals["pusher_api"] == 1
    assert "call of pusher_channels refused: the app is disabled" in caplog.text
    scopes: list[Any] = []
    inner = backend.kit.nodes[0].app

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)
        scopes.append(scope["query_string"])

    backend.kit.nodes[0].app = watched
    await backend.get("channels", info="subscription_count")
    assert b"info=subscription_count" in scopes[0]
    await backend.send("POST", "events", b"x" * 1_000_000)
    backend.apps.failure = Error(ErrorCode.INTERNAL)
    await backend.refused("GET", "channels")
    assert [b"auth_signature=***" in each for each in scopes] == [True] * 3


async def test_calls_are_measured(backend: Backend) -> None:
    metrics = backend.kit.gateway.node.metrics
    await backend.get("channels")
    await backend.refused("GET", "channels/no channel")
    assert sum(metrics.api_time["pusher_channels"].counts) == 1
    assert metrics.api_errors == {("pusher_channel", 107): 1}


async def test_without_the_broker_nothing_is_done(backend: Backend) -> None:
    backend.kit.broker.kill()
    event = {"name": "a", "channel": "news", "data": "1"}
    for method, path, body, query in (
        ("POST", "events", event, {}),
        ("POST", "batch_events", {"batch": [event]}, {}),
        ("GET", "channels", None, {}),
        ("GET", "channels/presence-a", None, {}),
        ("GET", "channels/presence-a/users", None, {}),
        ("POST", "users/7/terminate_connections", {}, {}),
    ):
        status, message = await backend.refused(method, path, body, **query)
        assert (status, bool(message)) == (503, True), path
    assert (await backend.refused("GET", "channels/news", app=PLAIN))[0] == 503  # which no presence knows


async def test_up_says_so(backend: Backend) -> None:
    assert done(await backend.raw("GET", "/up")) == {"health": "OK"}


async def test_nothing_is_unprocessable(backend: Backend) -> None:
    for app in (SHOP, PLAIN, SMALL, BARE, OBJECTS):
        for body in (b"{}", b"[]", b'{"name":"a"}', b'{"name":"a","channels":"x","data":"1"}'):
            assert (await backend.send("POST", "events", body, app)).status_code == 400
