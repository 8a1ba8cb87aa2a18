"""Credentials and grants that end, and are renewed: what the program says, and what the SDKs make of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from gateway import Client, Credentials, Gateway, Grant, TokenExpired
from gateway.auth.tokens import sign_connection
from gateway.program.routes.signatures import SignatureError
from gateway.testing import Disconnected, Kit, Refused
from gateway.testing.client import Client as KitClient
from tests.program.routes.clients import SECRET, assert_empty, gateway_with, running, settled

INVALID = 'Bearer realm="chat", error="invalid_token", error_description="expired"'


def app_with(gateway: Gateway) -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    return app


def expired(ago: float, **claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": 1_700_000_000 - ago, **claims}, "of nobody here, thirty-two bytes")


# — a token whose time has passed —

REFUSALS: dict[str, tuple[Any, str, int]] = {
    "TokenExpired": (TokenExpired, "opaque", 109),
    "with a reason": (TokenExpired("signed out"), "opaque", 109),
    "by its header": (HTTPException(401, headers={"www-authenticate": INVALID}), "opaque", 109),
    "unquoted": (HTTPException(401, headers={"WWW-Authenticate": "Bearer error=invalid_token"}), "opaque", 109),
    "another reason": (HTTPException(401, headers={"WWW-Authenticate": "Bearer"}), "opaque", 101),
    "another error": (HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token_type"'}), "x", 101),
    "a header alone": (HTTPException(403, headers={"WWW-Authenticate": INVALID}), "opaque", 103),
    "a plain 401": (HTTPException(401), "opaque", 101),
    "a plain 401 of a JWT that has expired": (HTTPException(401), expired(0), 109),
    "a plain 401 of a JWT that has not": (HTTPException(401), expired(-1e10), 101),
    "of one without end": (HTTPException(401), jwt.encode({"sub": "ann"}, SECRET), 101),
    "of one that ends in words": (HTTPException(401), jwt.encode({"sub": "ann", "exp": "soon"}, SECRET), 101),
    "of one that is none": (HTTPException(401), "a.b.c", 101),
    "of one too long to look at": (HTTPException(401), expired(0, x="x" * 8192), 101),
    "a 403 of one that has expired": (HTTPException(403), expired(0), 103),
}


@pytest.mark.parametrize(("refusal", "token", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_what_a_refusal_is_to_the_sdks(refusal: Any, token: str, code: int) -> None:
    gateway = gateway_with({})
    room = gateway.channel("room:{name}", allow_subscribe_for_client=True)
    refusing = True

    @gateway.on_connect
    @room.on_subscribe
    async def connect() -> None:
        if refusing:
            raise refusal

    async with running(gateway) as opened:
        assert (await opened().error("connect", token=token))[0] == code
        refusing = False
        client = opened()
        await client.connect()
        refusing = True
        assert (await client.error("subscribe", channel="room:a", token=token))[0] == code


async def test_who_comes_with_credentials_that_are_over_gets_no_grace_to_renew_them() -> None:
    gateway = gateway_with({})
    room = gateway.channel("room:{name}")
    ended: list[str] = []

    @gateway.on_connect
    @gateway.on_refresh
    async def connect(client: Client) -> Credentials:
        return Credentials("ann", expires=gateway.node.clock() + float(client.token))

    @room.on_subscribe
    @room.on_refresh
    async def join(client: Client) -> Grant:
        return Grant(expires=gateway.node.clock() + float(client.token))

    @room.on_unsubscribe
    async def leave(name: str) -> None:
        ended.append(name)

    async with running(gateway) as opened:
        for token in ("-100", "-1e8"):
            client = opened()
            assert await client.error("connect", token=token) == (109, "token expired")
            assert gateway.node.hub.connections == {}
        client = opened()
        await client.connect(token="60")
        assert await client.error("subscribe", channel="room:a", token="-100") == (109, "token expired")
        assert client.session.subscriptions == {}
        await settled(gateway)
        assert ended == ["a"]


async def test_the_reason_is_told() -> None:
    gateway = gateway_with({})

    @gateway.on_connect
    async def connect() -> None:
        raise TokenExpired("signed out elsewhere")

    async with running(gateway) as opened:
        assert await opened().error("connect", token="x") == (109, "signed out elsewhere")


async def test_coming_back_with_the_token_it_had() -> None:
    """As FastAPI programs have it: 401 for any JWT that will not do."""
    gateway = gateway_with({})
    news = gateway.channel("news", history_size=10, allow_subscribe_for_client=True)
    kits: list[Kit] = []

    @gateway.on_connect
    async def connect(token: Annotated[str, Depends(gateway.token)]) -> Credentials:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
        if claims["exp"] <= kits[0].clock():
            raise HTTPException(401, "Could not validate credentials")
        return Credentials(claims["sub"], expires=claims["exp"])

    async with Kit(app_with(gateway)) as kit:
        kits.append(kit)
        ann = await kit.connect(token=sign_connection(SECRET, "ann", 60, kit.clock()))
        heard = await ann.subscribe(news.name())
        await kit.clock.advance(61)
        assert (await ann.ended()).code == 3005
        await gateway.publish("news", "meanwhile")
        with pytest.raises(Refused, match="109 Could not validate credentials"):
            await ann.reconnect()
        ann.token = sign_connection(SECRET, "ann", 60, kit.clock())
        await ann.reconnect()
        assert heard.recovered
        assert (await heard.next()).data == "meanwhile"


@pytest.mark.parametrize(("token", "answer"), [("old", "109 token expired"), ("", "3005 connection expired")])
async def test_credentials_that_are_over_let_nobody_in(token: str, answer: str) -> None:
    """As of a program that still takes a token which has just expired: let in, the SDKs would return at once."""
    gateway = gateway_with({})
    left: list[str] = []

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("ann", expires=gateway.node.clock())

    @gateway.on_disconnect
    async def disconnect(client: Client) -> None:
        left.append(client.id)

    async with Kit(app_with(gateway)) as kit:
        with pytest.raises((Refused, Disconnected), match=answer):
            await kit.connect(token=token)
        await kit.clock.advance(1)
        await kit.wait_idle()
        assert len(left) == 1


async def test_a_grant_that_is_over_lets_nobody_in() -> None:
    gateway = gateway_with()
    room = gateway.channel("room")
    left: list[str] = []

    @room.on_subscribe
    async def enter() -> Grant:
        return Grant(expires=gateway.node.clock())

    @room.on_unsubscribe
    async def leave(client: Client) -> None:
        left.append(client.id)

    async with Kit(app_with(gateway)) as kit:
        ann = await kit.connect()
        with pytest.raises(Refused, match="109 token expired"):
            await ann.subscribe("room")
        await kit.wait_idle()
        assert left == [ann.id]


# — connections —


class Told:
    """What the program answers about tokens, by the token."""

    def __init__(self) -> None:
        self.gateway = gateway_with({})
        self.answers: dict[str, Any] = {}
        self.refreshed: list[tuple[str, str]] = []

        @self.gateway.on_connect
        async def connect(client: Client) -> Credentials:
            return Credentials("ann", expires=self.kit.clock() + 60, channels=["given"])

        @self.gateway.on_refresh
        async def refresh(token: Annotated[str, Depends(self.gateway.token)], client: Client) -> Any:
            self.refreshed.append((client.user, token))
            if isinstance(answer := self.answers[token], Exception):
                raise answer
            return answer

        self.gateway.channel("given")
        self.kit = Kit(app_with(self.gateway))

    def credentials(self, user: str = "ann", ttl: float = 60.0, **more: Any) -> Credentials:
        return Credentials(user, **{"expires": self.kit.clock() + ttl, "channels": ["given"], **more})

    async def refresh(self, client: KitClient, answer: Any) -> dict[str, Any]:
        self.answers["another"] = answer
        return await client.ask("refresh", {"token": "another"})


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    told = Told()
    async with told.kit:
        yield told


async def test_a_program_renews_its_credentials(told: Told) -> None:
    ann = await told.kit.connect(token="one")
    await told.kit.clock.advance(50)
    result = await told.refresh(ann, told.credentials(ttl=100, info={"name": "Ann"}))
    assert result == {"client": ann.id, "version": result["version"], "expires": True, "ttl": 100}
    assert told.refreshed == [("ann", "another")]
    [session] = told.gateway.node.hub.of_user("ann")
    assert session.info == b'{"name":"Ann"}'  # type: ignore[attr-defined]  # it is a session
    await told.kit.clock.advance(99)
    assert ann.connected
    await told.kit.clock.advance(100)  # and the time that a client has to send another
    assert (await ann.ended()).code == 3005


async def test_who_has_connected_with_a_token_is_told_when_to_send_another(told: Told) -> None:
    ann, cookie = await told.kit.connect(token="one"), await told.kit.connect()
    assert '"expires":true,"ttl":60' in ann._heard[0]
    assert "expires" not in cookie._heard[0]
    with pytest.raises(Disconnected, match="3501"):  # there is nothing that it could renew: it connects anew
        await told.refresh(cookie, told.credentials())


ENDS: dict[str, tuple[Any, str]] = {
    "expired": (TokenExpired(), "3005 connection expired"),
    "says FastAPI": (HTTPException(401, headers={"WWW-Authenticate": INVALID}), "3005 connection expired"),
    "refused": (False, "3507 permission denied"),
    "of another user": ({"user": "bob"}, "3500 invalid token"),
    "of nobody": ({"user": ""}, "3500 invalid token"),
    "with other channels": ({"channels": ["given", "more"]}, "3010 insufficient state"),
    "with no channels": ({"channels": []}, "3010 insufficient state"),
    "over already": ({"ttl": -1.0}, "3005 connection expired"),
}


@pytest.mark.parametrize(("answer", "end"), ENDS.values(), ids=ENDS)
async def test_tokens_that_end_the_connection(told: Told, answer: Any, end: str) -> None:
    ann = await told.kit.connect(token="one")
    with pytest.raises(Disconnected, match=end):
        await told.refresh(ann, told.credentials(**answer) if isinstance(answer, dict) else answer)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HTTPException(401, "who are you?"), "101 who are you"),
        (HTTPException(503, "later"), "100 later"),
        (None, "100 internal server error"),
        ("ann", "100 internal server error"),
    ],
)
async def test_errors_answer_and_the_expiry_stands(
    told: Told, answer: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await told.kit.connect(token="one")
    with pytest.raises(Refused, match=error):
        await told.refresh(ann, answer)
    assert ("must return Credentials(user, expires=...)" in caplog.text) == (not isinstance(answer, Exception))
    await told.refresh(ann, told.credentials())  # the SDKs try again after what is temporary
    await told.kit.clock.advance(200)
    assert (await ann.ended()).code == 3005


async def test_credentials_without_end(told: Told) -> None:
    ann = await told.kit.connect(token="one")
    assert "expires" not in await told.refresh(ann, told.credentials(expires=None))
    await told.kit.clock.advance(200)
    assert ann.connected


async def test_leaving_while_on_refresh_decides() -> None:
    gateway = gateway_with({})
    go_on, called = asyncio.Event(), asyncio.Event()

    @gateway.on_connect
    async def connect() -> Credentials:
        return Credentials("ann", expires=gateway.node.clock() + 60)

    @gateway.on_refresh
    async def refresh() -> Credentials:
        called.set()
        await go_on.wait()
        return Credentials("ann", expires=gateway.node.clock() + 1000)

    async with running(gateway) as opened:
        client = opened()
        await client.connect(token="one")
        await client.send("refresh", token="another")
        await called.wait()
        gateway.running.acceptor.close(client.session)
        go_on.set()
        await settled(gateway)
        assert client.session.token == "one"
        assert client.session.expire_at <= gateway.node.clock() + 60
        await assert_empty(gateway)


async def test_a_verified_token_is_known_to_on_refresh() -> None:
    gateway = gateway_with({"token": {"hmac_secret_key": SECRET}})
    gateway.channel("given")

    @gateway.on_connect
    async def connect(client: Client) -> str:
        return f"{client.user} of the program"

    @gateway.on_refresh
    async def refresh(token: Annotated[str, Depends(gateway.token)], client: Client) -> Any:
        return Credentials(client.user) if "." in token else None

    async with running(gateway) as opened:
        client, now = opened(), gateway.node.clock()
        result = await client.connect(token=sign_connection(SECRET, "ann", 60, now, channels=["given"]))
        assert result["expires"]
        result = await client.result("refresh", token=sign_connection(SECRET, "ann", 600, now, channels=["given"]))
        assert 590 <= result["ttl"] <= 600, "the token's end holds"
        forged = sign_connection("x" * 32, "ann", 600, now)
        assert (await client.disconnected("refresh", token=forged))[0] == 3500


@pytest.mark.parametrize("answer", [None, True])
async def test_without_on_connect_tokens_can_be_refused_still(answer: Any) -> None:
    gateway = gateway_with({"token": {"hmac_secret_key": SECRET}})
    banned = False

    @gateway.on_refresh
    async def refresh() -> Any:
        return False if banned else answer

    async with running(gateway) as opened:
        client, now = opened(), gateway.node.clock()
        await client.connect(token=sign_connection(SECRET, "ann", 60, now))
        assert (await client.result("refresh", token=sign_connection(SECRET, "ann", 60, now)))["expires"]
        banned = True
        assert (await client.disconnected("refresh", token=sign_connection(SECRET, "ann", 60, now)))[0] == 3507


def test_no_data_comes_with_a_refresh() -> None:
    class Hello(BaseModel):
        name: str

    async def refresh(hello: Hello) -> None: ...

    with pytest.raises(SignatureError, match=r"no data comes with this event(.|\n)*@gateway.on_refresh"):
        gateway_with().on_refresh(refresh)
    with pytest.raises(SignatureError, match=r"no data comes with this event(.|\n)*@channel.on_refresh"):
        gateway_with().channel("a").on_refresh(refresh)


# — subscriptions —


class Room:
    """A channel whose grants end after a minute, and what its program answers about another token."""

    def __init__(self) -> None:
        self.gateway = gateway_with()
        self.channel = self.gateway.channel("room:{name}", presence=True, history_size=10)
        self.answer: Any = None

        @self.channel.on_subscribe
        async def join(token: Annotated[str | None, Depends(self.token)]) -> Grant:
            if token == "old":
                raise TokenExpired
            return Grant(expires=self.kit.clock() + 60)

        @self.channel.on_refresh
        async def renew(name: str, token: Annotated[str, Depends(self.gateway.token)]) -> Any:
            assert (name, token) == ("a", "another")
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        self.kit = Kit(app_with(self.gateway))

    @staticmethod
    def token(client: Client) -> str:
        return client.token

    async def refresh(self, client: KitClient, answer: Any) -> dict[str, Any]:
        self.answer = answer
        return await client.ask("sub_refresh", {"channel": "room:a", "token": "another"})


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    async with room.kit:
        yield room


async def test_a_program_renews_its_grants(room: Room) -> None:
    ann = await room.kit.connect()
    subscription = await ann.subscribe("room:a", token="one")
    assert '"expires":true,"ttl":60' in ann._heard[-1]
    await room.kit.clock.advance(50)
    result = await room.refresh(ann, Grant(expires=room.kit.clock() + 100, info={"role": "writer"}))
    assert result == {"expires": True, "ttl": 100}
    [member] = (await room.gateway.presence("room:a")).values()
    assert member.chan_info == {"role": "writer"}
    await room.kit.clock.advance(110)  # there is some time to send another
    assert not subscription.resubscriptions
    await room.kit.clock.advance(20)
    await subscription.resubscribed()


async def test_a_subscription_without_token_asks_again(room: Room) -> None:
    ann = await room.kit.connect()
    subscription = await ann.subscribe("room:a")
    assert "expires" not in ann._heard[-1]  # the SDKs would ask the page for a token, and give up
    await room.kit.clock.advance(61)
    await subscription.resubscribed()
    assert any('"code":2501' in each for each in ann._heard)
    with pytest.raises(Disconnected, match="3501"):
        await room.refresh(ann, Grant())


async def test_an_expired_token_at_subscribe(room: Room) -> None:
    ann = await room.kit.connect()
    with pytest.raises(Refused, match="109 token expired"):
        await ann.subscribe("room:a", token="old")
    await ann.subscribe("room:a", token="one")


@pytest.mark.parametrize("answer", [TokenExpired(), Grant(expires=1_600_000_000)])
async def test_an_expired_token_at_refresh_has_it_subscribe_again(room: Room, answer: Any) -> None:
    ann = await room.kit.connect()
    subscription = await ann.subscribe("room:a", token="one")
    with pytest.raises(Refused, match="109 token expired"):
        await room.refresh(ann, answer)
    await subscription.resubscribed()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (False, "103 permission denied"),
        (HTTPException(503, "later"), "100 later"),
        (None, "100 internal server error"),
    ],
)
async def test_errors_answer_and_the_end_stands(
    room: Room, answer: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await room.kit.connect()
    subscription = await ann.subscribe("room:a", token="one")
    with pytest.raises(Refused, match=error):
        await room.refresh(ann, answer)
    assert ("on_refresh must return Grant(expires=...)" in caplog.text) == (answer is None)
    await room.kit.clock.advance(90)
    await subscription.resubscribed()


async def test_being_unsubscribed_while_on_refresh_decides() -> None:
    gateway = gateway_with()
    room = gateway.channel("room:{name}", presence=True)
    go_on, called = asyncio.Event(), asyncio.Event()

    @room.on_subscribe
    async def join() -> Grant:
        return Grant(expires=gateway.node.clock() + 60)

    @room.on_refresh
    async def renew() -> Grant:
        called.set()
        await go_on.wait()
        return Grant(expires=gateway.node.clock() + 600)

    async with running(gateway) as opened:
        client = opened()
        await client.connect()
        await client.subscribe("room:a", token="one")
        command = await client.send("sub_refresh", channel="room:a", token="another")
        await called.wait()
        await gateway.unsubscribe("", "room:a", client=client.session.client)
        await client.pushed("room:a")
        go_on.set()
        assert (await client.reply(command))["error"]["code"] == 103
        assert client.session.subscriptions == {}
        await client.leave()
        await assert_empty(gateway)
