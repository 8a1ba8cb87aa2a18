"""What a node's limits let through: of connections, commands, bytes and errors."""

import logging
from typing import Any

import pytest

from gateway.config.settings import ClientSettings
from gateway.errors import BrokerUnavailable
from gateway.limits.addresses import NOWHERE, Network
from gateway.limits.base import Budget, Outcome
from gateway.limits.limiter import BYTES, PUBLIC_CONNECTIONS, Layers, Limiter, Spender
from gateway.limits.memory import MemoryLimits
from gateway.messages import (
    ConnectRequest,
    HistoryRequest,
    Pong,
    PublishRequest,
    RPCRequest,
    SendRequest,
    UnsubscribeRequest,
)
from gateway.metrics import Metrics
from gateway.recurring import MINUTE

HOME = Network("127.0.0.1")
STREET = Network("8.8.8.8", public=True)


class Door:
    """A limiter, its clock and its counters."""

    def __init__(self, client: dict[str, Any] | None = None, **layers: Any) -> None:
        self.now = 1000.0
        self.metrics = Metrics()
        self.limiter = Limiter(settings(client, **layers), self.metrics, lambda: self.now)

    def layers(self, network: Network) -> Layers:
        found = self.limiter.of_commands(network)
        assert found is not None
        return found

    def allowed(self, spender: Spender, kind: Any, times: int = 100, user: str = "", cost: int = 1) -> int:
        """How many of so many commands."""
        layers = self.layers(spender.network)
        return sum(self.limiter.allows(layers, spender, user, kind, cost) for _ in range(times))

    @property
    def counted(self) -> dict[str, int]:
        return {f"{layer}.{command}": count for (layer, command, _), count in self.metrics.over_limit.items()}


def settings(client: dict[str, Any] | None = None, **layers: Any) -> ClientSettings:
    return ClientSettings.model_validate({**(client or {}), "rate_limit": layers})


# — what holds for whom —


def test_by_default_nothing_holds_where_the_address_is_none_of_the_internet() -> None:
    door = Door()
    for network in (HOME, NOWHERE):
        assert door.limiter.of_commands(network) is None
        assert not door.limiter.is_full(network)
        assert door.limiter.wait(network) == 0
        assert all(door.limiter.bears(Spender(network)) for _ in range(10_000))
    for _ in range(PUBLIC_CONNECTIONS):
        door.limiter.enter(HOME)
    assert not door.limiter.is_full(HOME)


def test_by_default_an_address_of_the_internet_is_limited() -> None:
    door, spender = Door(), Spender(STREET)
    assert door.allowed(spender, PublishRequest, 3000) == 1000
    assert sum(not door.limiter.wait(STREET) for _ in range(3000)) == 1000
    assert sum(door.limiter.bears(spender) for _ in range(3000)) == 500
    for _ in range(PUBLIC_CONNECTIONS):
        assert not door.limiter.is_full(STREET)
        door.limiter.enter(STREET)
    assert door.limiter.is_full(STREET)


def test_what_is_switched_on_holds_for_all_and_what_is_switched_off_for_none() -> None:
    on = Door(client_command={"enabled": True}, address_command={"enabled": True}, client_error={"enabled": True})
    off = Door(client_command={"enabled": False}, address_command={"enabled": False}, client_error={"enabled": False})
    assert on.allowed(Spender(HOME), PublishRequest, 3000) == 1000
    assert sum(not on.limiter.wait(HOME) for _ in range(3000)) == 1000
    assert sum(on.limiter.bears(Spender(HOME)) for _ in range(3)) == 3
    assert off.limiter.of_commands(STREET) is None
    assert off.limiter.wait(STREET) == 0
    spender = Spender(STREET)
    assert all(off.limiter.bears(spender) for _ in range(3000))


def test_a_layer_without_rates_is_none() -> None:
    door = Door(
        client_command={"enabled": True, "total": ""},
        address_command={"enabled": True, "connect": "", "total": ""},
        user_command={"enabled": True},
        client_error={"enabled": True, "total": ""},
    )
    assert door.limiter.of_commands(HOME) is None
    assert door.limiter.wait(HOME) == 0
    spender = Spender(HOME)
    assert all(door.limiter.bears(spender) for _ in range(3000))


def test_settings_that_change_hold_at_once_for_who_is_here() -> None:
    door, spender = Door(client_command={"enabled": True, "publish": "2/minute"}), Spender(HOME)
    assert door.allowed(spender, PublishRequest) == 2
    door.limiter.configure(settings(client_command={"enabled": True, "publish": "2/minute"}))
    assert door.allowed(spender, PublishRequest) == 0  # nothing has changed
    door.limiter.configure(settings(client_command={"enabled": True, "publish": "7/minute", "history": "1/minute"}))
    assert door.allowed(spender, PublishRequest) == 7
    door.limiter.configure(settings())
    assert door.limiter.of_commands(HOME) is None


# — open connections —


def test_connections_of_an_address_are_counted_while_they_are_open() -> None:
    door = Door({"address_connection_limit": 2})
    door.limiter.enter(HOME)
    assert not door.limiter.is_full(HOME)
    door.limiter.enter(HOME)
    assert door.limiter.is_full(HOME)
    assert not door.limiter.is_full(STREET)
    door.limiter.leave(HOME)
    assert not door.limiter.is_full(HOME)
    door.limiter.leave(HOME)
    assert door.limiter._open == {}


def test_where_nobody_knows_the_address_nothing_is_counted() -> None:
    door = Door({"address_connection_limit": 1}, address_command={"enabled": True, "connect": "1/day"})
    for _ in range(3):
        assert not door.limiter.is_full(NOWHERE)
        assert door.limiter.wait(NOWHERE) == 0
        door.limiter.enter(NOWHERE)
    door.limiter.leave(NOWHERE)


def test_new_connections_of_an_address() -> None:
    door = Door(address_command={"enabled": True, "connect": "2/10s", "total": "1/day"})
    assert [door.limiter.wait(HOME) for _ in range(2)] == [0, 0]
    assert door.limiter.wait(HOME) == pytest.approx(5, abs=1e-3)
    assert door.limiter.wait(Network("127.0.0.2")) == 0
    assert door.counted == {"address_command.connect": 1}
    door.now += 5.01
    assert door.limiter.wait(HOME) == 0


def test_new_connections_that_are_only_counted() -> None:
    door = Door(address_command={"enabled": True, "connect": "2/10s", "dry_run": True})
    assert [door.limiter.wait(HOME) for _ in range(5)] == [0] * 5
    assert door.metrics.over_limit == {("address_command", "connect", True): 3}


def test_sessions_of_other_nodes_that_there_are_not() -> None:
    door = Door(address_command={"enabled": True, "connect": "2/10s", "total": "1/day"})
    for _ in range(2):
        assert [door.limiter.may_search(HOME) for _ in range(9)] == [True] * 9, "those that there are cost nothing"
        door.limiter.missed(HOME)
    assert not door.limiter.may_search(HOME)
    assert door.limiter.may_search(Network("127.0.0.2"))
    assert door.limiter.wait(HOME) == 0, "a connection may be opened all the same"
    assert door.counted == {"address_command.connect": 1}
    door.now += 5.01
    assert door.limiter.may_search(HOME)


def test_where_nobody_knows_the_address_any_session_may_be_asked_for() -> None:
    door = Door(address_command={"enabled": True, "connect": "1/day"})
    for _ in range(3):
        assert door.limiter.may_search(NOWHERE)
        door.limiter.missed(NOWHERE)
    door = Door(address_command={"enabled": False})
    door.limiter.missed(HOME)
    assert door.limiter.may_search(HOME)


# — commands —


def test_each_connection_has_its_own() -> None:
    door = Door(client_command={"enabled": True, "publish": "3/minute", "default": "5/minute", "total": "9/minute"})
    one, other = Spender(HOME), Spender(HOME)
    assert [door.allowed(one, kind) for kind in (PublishRequest, HistoryRequest, RPCRequest)] == [3, 5, 1]
    assert door.allowed(other, PublishRequest) == 3
    assert door.counted == {
        "client_command.publish": 97 + 97,
        "client_command.history": 95,
        "client_command.rpc": 99,
    }


def test_commands_that_nobody_limits() -> None:
    """A pong is asked for, and send is refused anyhow."""
    door = Door(client_command={"enabled": True, "default": "1/day", "total": "1/day"})
    assert [door.allowed(Spender(HOME), kind) for kind in (Pong, SendRequest, ConnectRequest)] == [100, 100, 100]


def test_connections_of_a_user_share() -> None:
    door = Door(client_command={"enabled": False}, user_command={"enabled": True, "publish": "5/minute"})
    spenders = [Spender(HOME), Spender(STREET)]
    assert [door.allowed(each, PublishRequest, 3, user="7") for each in spenders] == [3, 2]
    assert door.allowed(spenders[0], PublishRequest, user="8") == 5
    assert door.allowed(spenders[0], HistoryRequest, user="8") == 100
    assert set(door.counted) == {"user_command.publish"}


def test_users_without_id_count_by_address() -> None:
    """Nor does a user whose id looks like an address share with it."""
    door = Door(user_command={"enabled": True, "publish": "5/minute"})
    assert door.allowed(Spender(HOME), PublishRequest) == 5
    assert door.allowed(Spender(HOME), PublishRequest) == 0
    assert door.allowed(Spender(Network("10.0.0.1")), PublishRequest) == 5
    assert door.allowed(Spender(HOME), PublishRequest, user="127.0.0.1") == 5
    assert door.allowed(Spender(NOWHERE), PublishRequest) == 100


def test_connections_of_an_address_share() -> None:
    door = Door(address_command={"enabled": True, "total": "5/minute"})
    assert door.allowed(Spender(HOME), PublishRequest, user="7") == 5
    assert door.allowed(Spender(HOME), HistoryRequest, user="8") == 0
    assert door.allowed(Spender(Network("10.0.0.1")), PublishRequest, user="7") == 5
    assert door.allowed(Spender(NOWHERE), PublishRequest) == 100


def test_bytes() -> None:
    door = Door(client_command={"enabled": True, "bytes": "100/second", "total": "1/second", "default": "1/second"})
    spender = Spender(HOME)
    assert door.allowed(spender, BYTES, 1, cost=60) == 1
    assert door.allowed(spender, BYTES, 1, cost=60) == 0
    assert door.allowed(spender, BYTES, 1, cost=40) == 1
    assert door.counted == {"client_command.bytes": 1}


@pytest.mark.parametrize("layer", ["client_command", "user_command", "address_command"])
def test_unsubscribe_counts_but_is_never_refused(layer: str) -> None:
    door, spender = Door(**{layer: {"enabled": True, "total": "5/minute"}}), Spender(HOME)
    assert door.allowed(spender, UnsubscribeRequest) == 100
    assert door.allowed(spender, PublishRequest) == 0
    assert door.counted == {f"{layer}.publish": 100}


def test_what_is_only_counted_is_allowed() -> None:
    door, spender = Door(client_command={"enabled": True, "publish": "5/minute", "dry_run": True}), Spender(HOME)
    assert door.allowed(spender, PublishRequest) == 100
    assert door.metrics.over_limit == {("client_command", "publish", True): 95}


def test_what_the_first_layer_refuses_costs_the_next_nothing() -> None:
    door = Door(
        client_command={"enabled": True, "publish": "1/minute"}, user_command={"enabled": True, "publish": "2/minute"}
    )
    assert [door.allowed(Spender(HOME), PublishRequest, user="7") for _ in range(3)] == [1, 1, 0]


def test_a_user_connects() -> None:
    door = Door(user_command={"enabled": True, "connect": "2/minute", "total": "3/minute"})
    assert [door.limiter.admits(Spender(HOME), "7") for _ in range(3)] == [True, True, False]
    assert door.limiter.admits(Spender(HOME), "8")
    assert door.allowed(Spender(HOME), PublishRequest, user="7") == 1  # of the total
    assert Door().limiter.admits(Spender(STREET), "7")


def test_errors() -> None:
    door, spender = Door(client_error={"enabled": True, "total": "3/10s"}), Spender(HOME)
    assert [door.limiter.bears(spender) for _ in range(5)] == [True, True, True, False, False]
    assert door.limiter.bears(Spender(HOME))
    assert door.counted == {"client_error.error": 2}
    dry = Door(client_error={"enabled": True, "total": "3/10s", "dry_run": True})
    assert all(dry.limiter.bears(spender) for _ in range(5))
    assert dry.metrics.over_limit == {("client_error", "error", True): 2}


# — on all nodes —


class Away(MemoryLimits):
    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        raise BrokerUnavailable


async def shared(door: Door, kind: Any, user: str = "7", times: int = 20) -> int:
    layers = door.layers(HOME)
    return sum([await door.limiter.shared(layers, user, kind) for _ in range(times)])


async def test_users_are_limited_on_all_nodes_together() -> None:
    store = MemoryLimits(lambda: 1_000_000.0)
    rates = {"enabled": True, "default": "9/minute", "publish": "5/second 6/minute"}
    doors = [Door(redis_user_command=rates) for _ in range(2)]
    for door in doors:
        door.limiter.store = store
    assert [await shared(door, PublishRequest, times=3) for door in doors] == [3, 2]
    assert await shared(doors[0], HistoryRequest) == 9
    assert await shared(doors[0], ConnectRequest) == 9
    assert await shared(doors[0], PublishRequest, user="8") == 5
    assert await shared(doors[0], UnsubscribeRequest) == await shared(doors[0], Pong) == 20
    assert doors[1].counted == {"redis_user_command.publish": 1}


async def test_who_has_no_user_is_not_limited_on_all_nodes() -> None:
    door = Door(redis_user_command={"enabled": True, "default": "1/minute"})
    assert await shared(door, PublishRequest) == 20  # there is no store yet
    door.limiter.store = MemoryLimits()
    assert await shared(door, PublishRequest, user="") == 20


async def test_while_the_store_is_away_all_is_allowed() -> None:
    door = Door(redis_user_command={"enabled": True, "default": "1/minute"})
    door.limiter.store = Away()
    assert await shared(door, PublishRequest) == 20
    assert door.counted == {}


async def test_limits_on_all_nodes_that_are_only_counted() -> None:
    door = Door(redis_user_command={"enabled": True, "default": "1/minute", "dry_run": True})
    door.limiter.store = MemoryLimits()
    assert await shared(door, PublishRequest) == 20
    assert door.metrics.over_limit == {("redis_user_command", "publish", True): 19}


# — the log —


def test_refusals_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    door = Door(
        client_command={"enabled": True, "publish": "1/day", "history": "1/day"},
        user_command={"enabled": True, "rpc": "1/day", "dry_run": True, "refresh": "1/day"},
        client_error={"enabled": True, "total": "1/day"},
    )

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    for kind in (PublishRequest, HistoryRequest, RPCRequest):
        door.allowed(Spender(HOME), kind, 51, user="7\n" + "x" * 1000)
    assert told() == [
        "127.0.0.1: command refused: over client.rate_limit.client_command.publish",
        "127.0.0.1: command refused: over client.rate_limit.client_command.history (50 times in 0 s)",
    ], "once for each limit; not who is let through, for the layer only counts"
    spender = Spender(HOME)
    assert [door.limiter.bears(spender) for _ in range(2)] == [True, False]
    assert told() == [], "the end of the connection is told"
    door.now += MINUTE
    door.allowed(Spender(HOME), PublishRequest, 51)
    [line] = told()
    assert line.startswith("127.0.0.1: command refused: over client.rate_limit.client_command.publish")


def test_a_stranger_s_name_is_a_line_and_short(caplog: pytest.LogCaptureFixture) -> None:
    door = Door(user_command={"enabled": True, "rpc": "1/day"})
    door.allowed(Spender(HOME), RPCRequest, 2, user="7\n" + "x" * 1000)
    [line] = caplog.messages
    assert len(line) < 250
    assert "\n" not in line
