"""Which commands the program decides, and what of its answers a session keeps."""

from datetime import UTC, datetime, timedelta
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from gateway.auth.tokens import Grant
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Error, ErrorCode
from gateway.messages import (
    ConnectRequest,
    HistoryRequest,
    Payload,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.session.application import Admission, Admitted, route_of, unix_seconds
from gateway.session.dispatch import _is_decided as is_decided

EVENTS = (
    "subscribe",
    "refresh",
    "publish",
    "map_publish",
    "map_remove",
    "presence",
    "history",
    "unsubscribe",
    "cache_empty",
)


OF_ONE_COMMAND = ({"subscribe", "cache_empty"}, {"publish", "map_publish", "map_remove"})


def session(
    *events: str, connect: Any = None, refresh: Any = None, rpc: Any = None, route: bool = True, judges: bool = True
) -> Any:
    found: Any = SimpleNamespace(**{event: event in events for event in EVENTS}) if route else None

    def channel(name: str) -> Channel:
        if name == "nowhere":
            raise Error(ErrorCode.UNKNOWN_CHANNEL)
        return Channel(name, ChannelOptions(), route=found)

    application = SimpleNamespace(
        connect=connect, refresh=refresh, rpc=rpc, disconnect=None, judges_tokens=judges, judges_subs=judges
    )
    return SimpleNamespace(application=application, channel=channel)


@pytest.mark.parametrize(
    ("request_", "event"),
    [
        (SubscribeRequest("a"), "subscribe"),
        (SubscribeRequest("a"), "cache_empty"),
        (SubRefreshRequest("a"), "refresh"),
        (PublishRequest("a", Raw(b"1")), "publish"),
        (PublishRequest("a", Raw(b"1"), type=1, key="k"), "map_publish"),
        (PublishRequest("a", type=1, key="k", removed=True), "map_remove"),
        (PresenceRequest("a"), "presence"),
        (PresenceStatsRequest("a"), "presence"),
        (HistoryRequest("a"), "history"),
    ],
)
def test_commands_for_a_channel(request_: Any, event: str) -> None:
    assert is_decided(session(event), request_)
    same = next((each for each in OF_ONE_COMMAND if event in each), {event})
    others = [each for each in EVENTS if each not in same]
    assert not is_decided(session(*others), request_)
    assert not is_decided(session(route=False), request_)
    assert not is_decided(session(event), type(request_)("nowhere"))


@pytest.mark.parametrize("request_", [UnsubscribeRequest("a"), RefreshRequest("token")])
def test_commands_that_nobody_decides(request_: Request) -> None:
    assert not is_decided(session(*EVENTS, connect=print, rpc=print), request_)


def test_connect_refresh_and_calls() -> None:
    assert is_decided(session(refresh=print), RefreshRequest("token"))
    assert is_decided(session(connect=print), ConnectRequest())
    assert not is_decided(session(), ConnectRequest())
    assert is_decided(session(), ConnectRequest(subs={"a": SubscribeRequest()}))
    assert not is_decided(session(judges=False), ConnectRequest(subs={"a": SubscribeRequest()}))
    assert is_decided(session(connect=print), ConnectRequest(token="x"))
    assert not is_decided(session(connect=print, judges=False), ConnectRequest(token="x"))
    assert is_decided(session(connect=print, judges=False), ConnectRequest())
    assert is_decided(session(rpc=print), RPCRequest(method="x"))
    assert not is_decided(session(), RPCRequest(method="x"))


def test_what_is_admitted_unless_said_otherwise() -> None:
    assert (Admission().user, Admission().subs, Admission().refreshable) == ("", {}, True)
    assert (Admitted().grant, Admitted().expire_at, Admitted().refreshable) == (Grant(), 0, True)
    route = session("subscribe").channel("a").route
    assert route_of(Channel("a", ChannelOptions(), route=route)) is route
    assert Admission(data=Payload(b"1")).data == b"1"
    assert Admission().on_request
    assert Admitted().on_request


def test_a_route_comes_before_what_a_namespace_asks() -> None:
    route, asked = session("subscribe").channel("a").route, session("publish").channel("a").route
    assert route_of(Channel("a", ChannelOptions(), asks=asked)) is asked
    assert route_of(Channel("a", ChannelOptions(), route=route, asks=asked)) is route
    assert route_of(Channel("a", ChannelOptions())) is None


def test_moments() -> None:
    assert unix_seconds(None) == 0
    assert unix_seconds(1_700_000_000.9) == unix_seconds(datetime.fromtimestamp(1_700_000_000, UTC)) == 1_700_000_000
    assert unix_seconds(datetime(9999, 12, 31, tzinfo=UTC)) == 253_402_214_400  # of a token without end


@pytest.mark.parametrize("moment", [60, 0, True, 1_700_000_000_000, inf, nan, timedelta(minutes=1), "1700000000"])
def test_what_is_no_moment(moment: Any) -> None:
    with pytest.raises(
        ValueError, match=r"expires is a datetime or Unix seconds, for example time\.time\(\) \+ 60, and not"
    ):
        unix_seconds(moment)
