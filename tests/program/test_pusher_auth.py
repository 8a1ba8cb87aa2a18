"""Answers what pages of the Pusher protocol ask before they subscribe and sign in."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request
from httpx import ASGITransport, AsyncClient, Response

from gateway import Client, Credentials, Error, ErrorCode, Gateway, Grant, PusherApp, PusherUser
from gateway.apps.signatures import verify_channel, verify_user
from gateway.auth.tokens import sign_connection
from gateway.core.wheel import Timer
from tests.program.routes.clients import SECRET

MASTER = b64encode(b"m" * 32).decode()
APP: dict[str, Any] = {"id": "9001", "key": "k3y0example", "secret": "s3cr3t-example"}
SOCKET = "48213.907714"


def gateway_with(*apps: dict[str, Any], **sections: Any) -> Gateway:
    return Gateway(pusher={"enabled": True, "apps": list(apps) or [APP], **sections.pop("pusher", {})}, **sections)


class Page:
    """A page of the program's, which asks."""

    def __init__(self, gateway: Gateway, http: AsyncClient) -> None:
        self._gateway, self._http = gateway, http

    async def ask(self, path: str = "/pusher/auth", *, as_json: bool = False, **fields: Any) -> Response:
        fields = {"socket_id": SOCKET, **fields}
        return await self._http.post(path, json=fields) if as_json else await self._http.post(path, data=fields)

    async def granted(self, channel: str, key: str = "", **fields: Any) -> dict[str, Any]:
        """What it is given, whose signature is good."""
        answer = await self.ask(channel_name=channel, **fields)
        assert answer.status_code == 200, answer.text
        given: dict[str, Any] = answer.json()
        app = await self._gateway.running.apps.find(key or APP["key"])
        assert app is not None
        assert verify_channel(app, given["auth"], SOCKET, channel, given.get("channel_data", "")) is None
        return given

    async def refused(self, channel: str, status: int = 403, **fields: Any) -> str:
        """What it is told."""
        answer = await self.ask(channel_name=channel, **fields)
        assert answer.status_code == status, answer.text
        return str(answer.json()["detail"])


@asynccontextmanager
async def page(gateway: Gateway, **options: Any) -> AsyncIterator[Page]:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    app.include_router(gateway.pusher.auth)
    transport = ASGITransport(app, client=("203.0.113.7", 50000))
    async with gateway.lifespan(app), AsyncClient(transport=transport, base_url="http://here", **options) as http:
        yield Page(gateway, http)


async def current_user(user: Annotated[str, Header()] = "") -> str:
    if not user:
        raise HTTPException(401, "who are you?")
    return user


@pytest.fixture
def gateway() -> Gateway:
    """Ann may follow her orders; who has a name may enter the desk."""
    gateway = gateway_with()
    orders = gateway.channel("private-orders.{owner}")

    @orders.on_subscribe
    async def may_follow(owner: str, user: Annotated[str, Depends(current_user)]) -> bool:
        return owner == user

    @gateway.channel("presence-desk").on_subscribe
    async def enter() -> None: ...

    @gateway.on_connect
    async def connect(user: Annotated[str, Depends(current_user)]) -> Credentials[dict[str, str]]:
        return Credentials(user, info={"name": user.title()})

    return gateway


ANN = {"headers": {"user": "ann"}}


# — who may subscribe —


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("path", ["/pusher/auth", "/broadcasting/auth"])
async def test_the_handler_of_the_channel_decides(gateway: Gateway, path: str, as_json: bool) -> None:
    async with page(gateway, **ANN) as ann:
        assert list(await ann.granted("private-orders.ann", path=path, as_json=as_json)) == ["auth"]
        assert await ann.refused("private-orders.bob", path=path, as_json=as_json) == "permission denied"


async def test_who_may_not_connect_may_not_subscribe(gateway: Gateway) -> None:
    async with page(gateway) as nobody:
        assert await nobody.refused("presence-desk") == "who are you?"


async def test_members_are_who_on_connect_says_they_are(gateway: Gateway) -> None:
    async with page(gateway, **ANN) as ann:
        given = await ann.granted("presence-desk")
        assert given["channel_data"] == '{"user_id":"ann","user_info":{"name":"Ann"}}'


async def test_a_handler_may_say_what_is_shown_in_its_channel() -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: PusherUser(7, info={"name": "Ann"}))
    gateway.channel("presence-{room}").on_subscribe(lambda room: Grant(info={"room": room}, data="goes nowhere"))
    async with page(gateway) as ann:
        given = await ann.granted("presence-desk")
        assert json.loads(given["channel_data"]) == {"user_id": "7", "user_info": {"room": "desk"}}


async def test_handlers_see_the_request() -> None:
    gateway = gateway_with()
    seen: list[Any] = []

    @gateway.pusher.user
    async def user(session: Annotated[str, Cookie()], client: Client, request: Request) -> str:
        seen.append([session, client.id, client.user, request.headers["x-csrf-token"], request.method])
        client.state.session = session
        return "ann"

    @gateway.channel("private-a").on_subscribe
    async def join(client: Client) -> None:
        await client.subscribe("private-a")  # there is nobody to be subscribed
        seen.append([client.state.session, client.id, client.user, client.channels, client.connected])

    async with page(gateway, cookies={"session": "s1"}, headers={"X-CSRF-Token": "t"}) as ann:
        await ann.granted("private-a")
        assert seen == [["s1", SOCKET, "", "t", "POST"], ["s1", SOCKET, "ann", [], True]]
        assert gateway.node.hub.connections == {}


async def test_without_a_handler_the_options_of_the_route_decide() -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: "ann")
    gateway.channel("private-open", allow_subscribe_for_client=True)
    gateway.channel("private-closed")
    async with page(gateway) as ann:
        await ann.granted("private-open")
        await ann.refused("private-closed")


async def test_channels_that_nobody_has_declared_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    gateway = gateway_with(channel={"without_namespace": {"allow_subscribe_for_client": True}})
    gateway.pusher.user(lambda: "ann")
    async with page(gateway) as ann:
        await ann.refused("private-orders.7")
        assert "no handler says who may subscribe to private-orders.7" in caplog.text
        assert gateway.node.refusals.counts["pusher_auth"] == 1


async def test_apps_have_channels_of_their_own() -> None:
    gateway = gateway_with(
        {**APP, "namespace": "shop"},
        {**APP, "id": "2", "key": "other", "namespace": "school"},
        channel={"namespaces": [{"name": "shop"}, {"name": "school"}]},
    )
    gateway.pusher.user(lambda: "ann")
    gateway.channel("shop:private-{name}").on_subscribe(lambda name: name == "till")
    async with page(gateway) as ann:
        await ann.granted("private-till", app_key="k3y0example")
        await ann.refused("private-till", app_key="other")
        assert await ann.refused("private-till", app_key="unheard-of") == "no app has this key"
        assert await ann.refused("private-till") == "app_key must name one of the apps"
        answer = await ann.ask("/pusher/auth?app_key=k3y0example", channel_name="private-till")
        assert answer.status_code == 200


async def test_an_app_that_is_disabled_lets_nobody_in() -> None:
    gateway = gateway_with({**APP, "enabled": False})
    gateway.pusher.user(lambda: "ann")
    gateway.channel("private-a").on_subscribe(lambda: True)
    async with page(gateway) as ann:
        await ann.refused("private-a")


async def test_encrypted_channels_come_with_their_key(caplog: pytest.LogCaptureFixture) -> None:
    gateway = gateway_with(
        {**APP, "encryption_master_key": MASTER},
        {**APP, "id": "2", "key": "other", "namespace": "other"},
        channel={"namespaces": [{"name": "other"}]},
    )
    gateway.pusher.user(lambda: "ann")
    for pattern in ("private-encrypted-{name}", "other:private-encrypted-{name}"):
        gateway.channel(pattern).on_subscribe(lambda: True)
    async with page(gateway) as ann:
        given = await ann.granted("private-encrypted-a", app_key="k3y0example")
        assert given["shared_secret"] == "m39dniNqHZmpPz8qmx2NeEJ7eoQumZdUuPsTRCt+a+o="
        await ann.refused("private-encrypted-a", app_key="other")
        assert "encryption_master_key" in caplog.text
        assert MASTER not in caplog.text


# — who it is —


async def test_a_token_says_who_it_is() -> None:
    gateway = gateway_with(client={"token": {"hmac_secret_key": SECRET}})
    gateway.channel("presence-a").on_subscribe(lambda: True)

    def bearer(**claims: Any) -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {sign_connection(SECRET, 'ann', **claims)}"}}

    async with page(gateway, **bearer()) as ann:
        assert (await ann.granted("presence-a"))["channel_data"] == '{"user_id":"ann"}'
    async with page(gateway, headers={"Authorization": "Bearer nonsense"}) as eve:
        await eve.refused("presence-a")
        assert gateway.node.refusals.counts.keys() == {"token_format"}
    async with page(gateway) as nobody:
        await nobody.refused("presence-a")


async def test_a_token_that_has_expired_is_told_of() -> None:
    gateway = gateway_with(client={"token": {"hmac_secret_key": SECRET}})
    token = sign_connection(SECRET, "ann", now=1_000_000_000, ttl=60)
    async with page(gateway, headers={"Authorization": f"Bearer {token}"}) as ann:
        assert await ann.refused("presence-a") == "token expired"
        assert gateway.node.refusals.counts.keys() == {"token_exp"}


async def test_nothing_is_left_of_who_has_asked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with page(gateway, **ANN) as ann:
        after = gateway.node.wheel.after

        def watched(delay: float, callback: Callable[[], None]) -> Timer:
            timer = after(delay, callback)
            timers.append(timer)
            return timer

        timers: list[Timer] = []
        monkeypatch.setattr(gateway.node.wheel, "after", watched)
        await ann.granted("presence-desk")
        await ann.refused("private-orders.bob")
        assert [each.callback for each in timers] == [None, None]


@pytest.mark.parametrize("said", [True, 1.5, {"id": "ann"}])
async def test_a_user_is_a_user(said: object) -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: said)
    async with page(gateway) as somebody:
        with pytest.raises(TypeError, match=r"pusher\.user must return a PusherUser, an id or None, not"):
            await somebody.refused("presence-a")


async def test_who_is_blocked_is_refused(gateway: Gateway) -> None:
    async with page(gateway, **ANN) as ann:
        await gateway.block("ann")
        await ann.refused("private-orders.ann")


@pytest.mark.parametrize("user", ["", "ann@example.org with a space", "x" * 201])
async def test_members_have_an_id(user: str) -> None:
    gateway = gateway_with()
    gateway.on_connect(lambda: user)
    gateway.channel("presence-a").on_subscribe(lambda: True)
    gateway.channel("private-a").on_subscribe(lambda: True)
    async with page(gateway) as somebody:
        await somebody.refused("presence-a")
        await somebody.granted("private-a")
        assert (await somebody.ask("/pusher/user-auth")).status_code == 403


@pytest.mark.parametrize("path", ["/pusher/user-auth", "/broadcasting/user-auth"])
async def test_users_sign_in(path: str) -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: PusherUser(7, info={"name": "Ann"}, watchlist=[8, "bob"]))
    async with page(gateway) as ann:
        answer = (await ann.ask(path)).json()
        app = await gateway.running.apps.find(APP["key"])
        assert app is not None
        assert verify_user(app, answer["auth"], SOCKET, answer["user_data"]) is None
        assert json.loads(answer["user_data"]) == {"id": "7", "user_info": {"name": "Ann"}, "watchlist": ["8", "bob"]}


async def test_users_sign_in_by_on_connect(gateway: Gateway) -> None:
    async with page(gateway, **ANN) as ann:
        data = (await ann.ask("/pusher/user-auth")).json()["user_data"]
        assert json.loads(data) == {"id": "ann", "user_info": {"name": "Ann"}}


async def test_nobody_signs_in_to_an_app_that_does_not_have_it() -> None:
    gateway = gateway_with({**APP, "enable_user_authentication": False})
    gateway.pusher.user(lambda: "ann")
    async with page(gateway) as ann:
        assert (await ann.ask("/pusher/user-auth")).status_code == 403


async def test_whom_the_program_does_not_know_is_refused() -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: None)
    gateway.channel("private-a").on_subscribe(lambda: True)
    async with page(gateway) as nobody:
        await nobody.refused("private-a")


# — what cannot be answered —


@pytest.mark.parametrize(
    "fields",
    [
        {"channel_name": "news"},
        {"channel_name": "#server-to-user-ann"},
        {"channel_name": "private-with space"},
        {"channel_name": "private-" + "x" * 200},
        {"channel_name": ""},
        {"channel_name": "private-a", "socket_id": ""},
        {"channel_name": "private-a", "socket_id": "1.2\n"},
        {"channel_name": "private-a", "socket_id": "1.2:private-b"},
        {"channel_name": "private-a", "socket_id": "\u0661.2"},
    ],
)
async def test_what_cannot_be_signed_is_a_bad_request(fields: dict[str, Any]) -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: "ann")
    gateway.channel("{name:path}").on_subscribe(lambda: True)
    async with page(gateway) as ann:
        answer = await ann.ask(**fields)
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b'{"socket_id": 1.2, "channel_name": "private-a"}'),
        ("application/json", b"[" * 100_000),
        ("application/x-www-form-urlencoded", b"\xff=1"),
        ("application/x-www-form-urlencoded", b"&".join(b"a=%d" % n for n in range(200))),
        ("text/plain", b""),
        ("", b"\0"),
    ],
)
async def test_what_is_no_request_is_a_bad_one(kind: str, body: bytes) -> None:
    async with page(gateway_with()) as somebody:
        answer = await somebody._http.post("/pusher/auth", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 413)
        assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (HTTPException(401, "no"), 403),
        (HTTPException(404, "no"), 403),
        (HTTPException(429, "no"), 429),
        (HTTPException(503, "no"), 503),
        (Error(ErrorCode.PERMISSION_DENIED, "no"), 403),
        (Error(4711, "no"), 403),
    ],
)
async def test_what_handlers_raise_is_answered(raised: Exception, status: int) -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: "ann")

    @gateway.channel("private-a").on_subscribe
    async def join() -> None:
        raise raised

    async with page(gateway) as ann:
        assert await ann.refused("private-a", status) == "no"
        assert sum(gateway.node.metrics.errors.values()) == 1


async def test_what_a_handler_needs_and_does_not_get_is_a_bad_request() -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: "ann")

    @gateway.channel("private-a").on_subscribe
    async def join(needed: Annotated[str, Header()]) -> None: ...

    async with page(gateway) as ann:
        assert "needed" in await ann.refused("private-a", 400)


async def test_a_handler_may_close_what_asks() -> None:
    gateway = gateway_with()
    gateway.pusher.user(lambda: "ann")

    @gateway.channel("private-b").on_subscribe
    async def join(client: Client) -> None:
        client.disconnect(4001, "no")

    async with page(gateway) as ann:
        await ann.refused("private-b")


# — apps of the program's —


async def test_who_says_who_asks_is_told_of_which_app() -> None:
    """Or the users of one could sign in to another, whose user of that id is somebody else."""
    gateway = gateway_with(pusher={"namespace": "tenants"}, channel={"namespaces": [{"name": "tenants"}]})

    @gateway.pusher.app
    async def load(key: str) -> PusherApp | None:
        former = ({"key": "old", "secret": "a former secret"},)
        return PusherApp(id="42", key="t42", secret="another secret", namespace="tenants:42", former_keys=former)

    seen: list[str] = []

    @gateway.pusher.user
    async def user(app: str) -> str | None:
        seen.append(app)
        return "ann" if app == "t42" else None

    async with page(gateway) as ann:
        assert (await ann.ask("/pusher/user-auth?app_key=t42", app_key=APP["key"])).status_code == 403
        assert (await ann.ask("/pusher/user-auth", app_key="t42")).status_code == 200
        assert (await ann.ask("/pusher/user-auth", app_key="old")).status_code == 200
    assert seen == [APP["key"], "t42", "t42"]


async def test_the_program_knows_other_apps() -> None:
    gateway = gateway_with(pusher={"namespace": "tenants"}, channel={"namespaces": [{"name": "tenants"}]})

    @gateway.pusher.app
    async def app(key: str) -> PusherApp | None:
        return PusherApp(id="42", key=key, secret="another secret", namespace="tenants:42") if key == "t42" else None

    gateway.pusher.user(lambda: "ann")
    gateway.channel("tenants:{tenant}:private-{name}").on_subscribe(lambda tenant: tenant == "42")
    async with page(gateway) as ann:
        await ann.granted("private-a", "t42", app_key="t42")
        await ann.refused("private-a", app_key="t43")
