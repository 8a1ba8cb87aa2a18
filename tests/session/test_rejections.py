"""What the log says of a client that is turned away or cut off, and what it does not say."""

import logging

import pytest

from gateway.core.cluster import DisconnectUser
from gateway.errors import Disconnect, DisconnectCode
from gateway.recurring import Named
from gateway.session import Session
from tests.session.rig import SECRET, Client, Rig


@pytest.fixture
async def rig() -> Rig:
    return await Rig.open(user_connection_limit=2, channel_limit=1)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> "Lines":
    caplog.set_level(logging.INFO)
    return Lines(caplog)


class Lines:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def told(self) -> list[str]:
        return [each.getMessage() for each in self._caplog.records if each.name == "gateway.refusals"]

    @property
    def levels(self) -> list[int]:
        return [each.levelno for each in self._caplog.records if each.name == "gateway.refusals"]


async def test_a_session_is_named_by_what_is_known_of_it(rig: Rig) -> None:
    session = rig.client().session
    assert str(session) == f"client {session.client}"
    assert fields(session) == {"client": session.client}
    session.user, session.address = "eve\n" + "x" * 1000, "203.0.113.9"
    assert str(session).startswith(f"client {session.client} user 'eve\\nxxx")
    assert str(session).endswith(" 203.0.113.9")
    assert len(str(session)) < 200
    assert fields(session) == {"client": session.client, "user": session.user, "address": "203.0.113.9"}


async def test_a_bad_token_is_told_with_its_claim_and_the_client_is_told_nothing(rig: Rig, lines: Lines) -> None:
    client = rig.client()
    client.session.address = "203.0.113.9"
    await client.say({"id": 1, "connect": {"token": rig.token(key="x" * 40)}})
    assert client.closed == (3500, "invalid token")
    assert lines.told == [
        f"client {client.session.client} 203.0.113.9: token refused: alg is 'HS256', and no key of client.token has "
        "signed it"
    ]
    assert rig.node.metrics.refusals == {"token_signature": 1}


async def test_a_token_that_has_expired_is_no_warning(rig: Rig, lines: Lines) -> None:
    token = rig.token(ttl=5)
    rig.pass_time(5)
    assert await rig.client().refused("connect", token=token) == 109
    assert await rig.client().refused("connect", token=token) == 109
    assert lines.levels == [logging.INFO]
    assert rig.node.metrics.refusals == {"token_exp": 2}


async def test_a_subscription_token_is_told_of_too(rig: Rig, lines: Lines) -> None:
    client = await rig.connected("alice")
    token = rig.channel_token("closed:1", key="x" * 40)
    assert await client.refused("subscribe", channel="closed:1", token=token) == 103
    assert " user 'alice': token refused: alg is 'HS256'" in lines.told[0]


async def test_why_a_command_is_none(rig: Rig, lines: Lines) -> None:
    client = await rig.connected()
    await client.say(b'{"id":1,"subscribe":{"channel":3}}')
    [line] = lines.told
    assert "closed with 3501 bad request: Expected `str`, got `int` - at `$.subscribe.channel`: what it sends" in line
    assert rig.node.metrics.refusals == {"bad_command": 1}


async def test_what_a_client_says_stays_on_its_line(rig: Rig, lines: Lines) -> None:
    client = await rig.connected()
    client.session.reject(Disconnect(DisconnectCode.BAD_REQUEST, "bad request: 'x\n2026 INFO all is well'"))
    [line] = lines.told
    assert line.isprintable()


async def test_a_limit_is_told_with_the_user(rig: Rig, lines: Lines) -> None:
    clients = [await rig.connected("bob"), await rig.connected("bob"), rig.client()]
    await clients[2].say({"id": 1, "connect": {"token": rig.token("bob")}})
    assert clients[2].closed == (3504, "connection limit")
    assert lines.told == [
        f"client {clients[2].session.client} user 'bob': closed with 3504 connection limit: its user has "
        "client.user_connection_limit of them"
    ]
    assert len(rig.node.hub.of_user("bob")) == 2


async def test_lost_networks_are_no_warning(rig: Rig, lines: Lines) -> None:
    client = await rig.connected()
    rig.pass_time(40)
    assert client.closed == (3012, "no pong")
    assert lines.levels == [logging.INFO]


@pytest.mark.parametrize(
    "reason",
    [
        Disconnect(DisconnectCode.CONNECTION_CLOSED),
        Disconnect(DisconnectCode.EXPIRED),
        Disconnect(4001, "the program says so"),
    ],
    ids=str,
)
async def test_what_is_no_refusal_is_not_told(rig: Rig, lines: Lines, reason: Disconnect) -> None:
    client = await rig.connected()
    client.session.reject(reason)
    assert client.closed == (reason.code, reason.reason)
    assert lines.told == []
    assert rig.node.metrics.refusals == {}


async def test_what_an_operator_does_is_no_refusal(rig: Rig, lines: Lines) -> None:
    client = await rig.connected("bob")
    code = DisconnectCode.CONNECTION_LIMIT
    rig.control(DisconnectUser(user="bob", code=code, reason=code.reason))
    assert client.closed == (3504, "connection limit")
    assert lines.told == []


async def test_a_client_that_is_closed_already_is_not_refused_once_more(rig: Rig, lines: Lines) -> None:
    client = await rig.connected()
    client.session.reject(Disconnect(DisconnectCode.SLOW))
    client.session.reject(Disconnect(DisconnectCode.SLOW))
    assert len(lines.told) == 1
    assert rig.node.metrics.refusals == {"slow_client": 1}


async def test_many_are_one_line(rig: Rig, lines: Lines) -> None:
    for _ in range(50):
        await _bad(rig)
    assert len(lines.told) == 1
    rig.pass_time(60)  # of silence
    assert lines.told[1:] == ["over: token_format, 50 times in 0 s"]
    assert SECRET not in "".join(lines.told)


async def _bad(rig: Rig) -> Client:
    client = rig.client()
    await client.say({"id": 1, "connect": {"token": "none"}})
    assert client.closed
    return client


def fields(session: Session) -> dict[str, str]:
    named = str(session)
    assert isinstance(named, Named)
    return named.log_fields()
