"""Connections and subscriptions that are renewed when their time is over, unasked by their clients."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.auth.tokens import Grant
from gateway.core.cluster import RefreshUser
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Payload
from gateway.session.application import Admission, Admitted
from tests.session.rig import NOW, Client, Rig

LATER = int(NOW) + 1000
QUIET: dict[str, Any] = {"ping_interval": 0, "pong_timeout": 0}
NOTHING: dict[str, Any] = dict.fromkeys(("connect", "refresh", "disconnect", "rpc", "renew"))
NO_ROUTE: dict[str, Any] = dict.fromkeys(
    ("subscribe", "refresh", "publish", "presence", "history", "unsubscribe", "cache_empty", "renew")
)


class Renewing:
    """Answers as the test says, once it says so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, *about: Any) -> Any:
        self.asked.append(about)
        await self.go_on.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def connected(renewing: Renewing, **claims: Any) -> tuple[Rig, Client]:
    rig = await Rig.open(**QUIET)
    client = rig.client()
    more = {"judges_tokens": False, "judges_subs": False, "headers": ("x-device", "x-large", "x-absent")}
    client.session.application = SimpleNamespace(**{**NOTHING, **more, "renew": renewing})
    token = rig.token(ttl=10, **claims)
    result = await client.connect(token=token, headers={"X-Device": "phone", "x-other": "x", "x-large": "x" * 8193})
    assert "expires" not in result
    return rig, client


async def test_a_connection_goes_on() -> None:
    renewing = Renewing(Admission(expire_at=LATER, info=Payload(b"[1]"), meta=Payload(b"{}")))
    rig, client = await connected(renewing, info={"a": 1}, meta={"plan": "free"})
    assert (client.session.info, client.session.meta) == (b'{"a":1}', b'{"plan":"free"}')
    assert client.session.headers == {"x-device": "phone"}, "of others nothing is kept, nor what is too large"
    rig.pass_time(10.2)
    await rig.settle()
    assert [about for (about,) in renewing.asked] == [client.session]
    assert (client.session.expire_at, client.session.info, client.session.meta) == (LATER, b"[1]", b"{}")
    assert client.closed is None
    renewing.answer = Admission(expire_at=LATER + 1000)
    rig.pass_time(1000)
    await rig.settle()
    assert (client.session.info, client.session.meta) == (b"[1]", b"{}"), "what it does not say stays"
    assert len(renewing.asked) == 2
    await client.leave()
    await rig.assert_empty()


@pytest.mark.parametrize(
    ("answer", "closed"),
    [
        (None, (3005, "connection expired")),
        (Admission(), (3005, "connection expired")),
        (Admission(expire_at=int(NOW) + 5), (3005, "connection expired")),
        (Disconnect(DisconnectCode.FORCE_DISCONNECT), (3503, "force disconnect")),
    ],
)
async def test_a_connection_ends(answer: Any, closed: tuple[int, str]) -> None:
    rig, client = await connected(Renewing(answer))
    rig.pass_time(10.2)
    await rig.settle()
    assert client.closed == closed


async def test_a_connection_that_has_ended_meanwhile_stays_so() -> None:
    renewing = Renewing(Admission(expire_at=LATER))
    renewing.go_on.clear()
    rig, client = await connected(renewing)
    rig.pass_time(10.2)
    await asyncio.sleep(0)
    client.session.disconnect(Disconnect(DisconnectCode.FORCE_DISCONNECT))
    renewing.go_on.set()
    await rig.settle()
    assert (client.session.expire_at, client.closed) == (int(NOW) + 10, (3503, "force disconnect"))
    await rig.assert_empty()


async def test_what_the_server_says_meanwhile_counts() -> None:
    renewing = Renewing(None)
    renewing.go_on.clear()
    rig, client = await connected(renewing)
    rig.pass_time(10.2)
    await asyncio.sleep(0)
    rig.control(RefreshUser(user="alice", expire_at=LATER))
    renewing.go_on.set()
    await rig.settle()
    assert (client.session.expire_at, client.closed) == (LATER, None)


# — subscriptions —


async def subscribed(renewing: Renewing, channel: str = "lobby:1") -> tuple[Rig, Client]:
    rig = await Rig.open(**QUIET)
    route = SimpleNamespace(**{**NO_ROUTE, "renew": renewing, "server_side": False})
    rig.node.channels._ask = lambda _options: route
    rig.node.channels.reload(rig.settings.channel, rig.settings.pusher)
    client = await rig.connected("alice")
    assert "expires" not in await client.subscribe(channel, token=rig.channel_token(channel, ttl=10))
    client.take()
    return rig, client


async def test_a_subscription_goes_on() -> None:
    renewing = Renewing(Admitted(Grant(Payload(b"[1]")), LATER))
    rig, client = await subscribed(renewing)
    subscription = client.session.subscriptions["lobby:1"]
    rig.pass_time(10.2)
    await rig.settle()
    assert [(session, channel.name) for session, channel in renewing.asked] == [(client.session, "lobby:1")]
    assert (subscription.expire_at, subscription.info.chan_info) == (LATER, b"[1]")
    (member,) = (await rig.presence.members("lobby:1")).values()
    assert member.chan_info == b"[1]"
    renewing.answer = Admitted()
    rig.pass_time(1000)
    await rig.settle()
    assert (subscription.expire_at, subscription.info.chan_info) == (0, b"[1]"), "for ever, and as it was"
    rig.pass_time(1000)
    assert subscription.live
    assert not client.take()


@pytest.mark.parametrize("answer", [None, Admitted(expire_at=int(NOW) + 5)])
async def test_a_subscription_ends(answer: Any) -> None:
    rig, client = await subscribed(Renewing(answer))
    rig.pass_time(10.2)
    await rig.settle()
    (push,) = client.take()
    assert push == {"channel": "lobby:1", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}


async def test_a_disconnect_in_place_of_a_renewal() -> None:
    rig, client = await subscribed(Renewing(Disconnect(DisconnectCode.FORCE_DISCONNECT)))
    rig.pass_time(10.2)
    await rig.settle()
    assert client.closed == (3503, "force disconnect")


async def test_another_subscription_to_the_channel_is_not_renewed_by_the_one_before() -> None:
    renewing = Renewing(Admitted(expire_at=LATER))
    renewing.go_on.clear()
    rig, client = await subscribed(renewing)
    rig.pass_time(10.2)
    await asyncio.sleep(0)
    await client.ask("unsubscribe", channel="lobby:1")
    await client.subscribe("lobby:1", token=rig.channel_token("lobby:1", ttl=20))
    expire_at = client.session.subscriptions["lobby:1"].expire_at
    renewing.go_on.set()
    await rig.settle()
    assert client.session.subscriptions["lobby:1"].expire_at == expire_at != LATER


async def test_a_token_brings_other_meta() -> None:
    rig = await Rig.open()
    client = rig.client()
    await client.connect(token=rig.token(ttl=10, meta={"plan": "free"}))
    await client.ask("refresh", token=rig.token(ttl=20))
    assert client.session.meta == b'{"plan":"free"}'
    await client.ask("refresh", token=rig.token(ttl=30, meta={"plan": "paid"}))
    assert client.session.meta == b'{"plan":"paid"}'
