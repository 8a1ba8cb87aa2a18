"""Who may open a connection, and what is known of a client by then."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from gateway import files
from gateway.auth.tokens import TokenVerifier
from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.audience import Write
from gateway.core.cluster import NodeInfo, seal
from gateway.core.node import Node
from gateway.errors import Disconnect
from gateway.presence.memory import MemoryPresence
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.session import ClientSession
from gateway.transports.admission import FORBIDDEN, TOO_MANY_REQUESTS, UNAVAILABLE, header
from gateway.transports.base import Acceptor
from gateway.transports.handshake import UpgradeRequest
from tests.core.test_hub import Client as HubClient


class Client(HubClient):
    """Its own transport."""

    name = "of tests"


def acceptor(**client: Any) -> tuple[Acceptor, Node]:
    settings = Settings.model_validate({"client": client})
    node = Node(settings, MemoryBroker(), MemoryPresence(), blocks=MemoryBlocks())
    return Acceptor(node, TokenVerifier(settings.client)), node


def scope(**headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()]}


def at(host: str | None, **headers: str) -> dict[str, Any]:
    return {"client": None if host is None else (host, 5000), **scope(**headers)}


def refused(door: Acceptor, asked: dict[str, Any] | None = None) -> int | None:
    """With which status, if at all."""
    refusal = door.refuse(asked or scope())
    return refusal and refusal.status


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ([], None, None),
        ([], "https://example.com", FORBIDDEN),
        ([], "null", FORBIDDEN),
        (["*"], "https://example.com", None),
        (["*"], "null", None),
        (["https://example.com"], "https://example.com", None),
        (["https://example.com"], "HTTPS://Example.COM", None),
        (["HTTPS://Example.COM"], "https://example.com", None),
        (["https://example.com"], "http://example.com", FORBIDDEN),
        (["https://example.com"], "https://example.com.evil.net", FORBIDDEN),
        (["https://example.com"], "https://example.com:8443", FORBIDDEN),
        (["https://*.example.com"], "https://chat.example.com", None),
        (["https://*.example.com"], "https://example.com", FORBIDDEN),
        (["https://*.example.com"], "https://chat.example.com.evil.net", FORBIDDEN),
        (["https://a.net", "https://b.net"], "https://b.net", None),
        (["https://a.net"], "", FORBIDDEN),
    ],
)
def test_origins(allowed: list[str], origin: str | None, status: int | None) -> None:
    door, _ = acceptor(allowed_origins=allowed)
    assert refused(door, scope() if origin is None else scope(origin=origin)) == status


def test_a_node_that_drains_takes_nobody() -> None:
    door, node = acceptor()
    assert refused(door) is None
    node.draining = True
    assert refused(door) == UNAVAILABLE


async def test_a_full_node_takes_nobody() -> None:
    """Sockets that say nothing count as well: they cost as much."""
    door, _ = acceptor(connection_limit=2)
    sessions = []
    for _ in range(2):
        assert refused(door) is None
        sessions.append(door.open(Wire(CentrifugeJson(), bytes.decode), Client(), scope()))  # type: ignore[arg-type]
    assert refused(door) == UNAVAILABLE
    assert refused(door, scope(origin="https://evil.net")) == FORBIDDEN
    condition = door.condition()
    assert condition is not None, "and balancers should know"
    assert (condition.reason, condition.status) == ("full", "full")
    door.close(sessions[0])
    assert refused(door) is None
    assert door.condition() is None


async def test_one_of_several_on_a_port_is_full_for_a_balancer_when_all_are() -> None:
    door, node = acceptor(connection_limit=1)
    door.open(Wire(CentrifugeJson(), bytes.decode), Client(), scope())  # type: ignore[arg-type]

    def hear(uid: str, *, full: bool, group: str = node.cluster.group) -> str:
        node.cluster.receive(seal(uid, NodeInfo(uid, uid, "1", group=group, full=full)))
        condition = door.condition()
        assert condition is not None
        assert (condition.reason, refused(door)) == ("full", UNAVAILABLE)
        return condition.status

    assert hear("elsewhere", full=False, group="another") == "full"
    assert hear("one", full=True) == "full"
    assert hear("two", full=False) == "degraded"
    assert hear("two", full=True) == "full"


def test_a_node_without_limit_is_never_full() -> None:
    door, _ = acceptor()
    assert door.condition() is None


@pytest.mark.parametrize(
    ("setting", "headers", "seen"),
    [
        ("X-User", {"x_user": "ann"}, {"x-user": "ann"}),
        ("X-User", {"x_user": "jürgen"}, {"x-user": "jürgen"}),
        ("X-User", {"x_user": ""}, {}),
        ("X-User", {}, {}),
        ("", {"x_user": "ann"}, {}),
    ],
)
def test_the_trusted_header_names_the_user(setting: str, headers: dict[str, str], seen: dict[str, str]) -> None:
    door, _ = acceptor(user_id_http_header=setting)
    session = door.open(Wire(CentrifugeJson(), bytes.decode), Client(), scope(**headers))  # type: ignore[arg-type]
    assert session.handshake.headers == seen


@pytest.mark.parametrize("user", ["Zoë", "李", "müller,7:#"])
async def test_the_trusted_header_names_users_in_utf8(user: str) -> None:
    door, _ = acceptor(user_id_http_header="X-User")
    headers = {"headers": [(b"x-user", user.encode())]}
    session = door.open(Wire(CentrifugeJson(), bytes.decode), Client(), headers)  # type: ignore[arg-type]
    assert session.handshake.headers == {"x-user": user}


class Closing:
    """A transport that notes how it is closed."""

    name = "closing"

    def __init__(self) -> None:
        self.codes: list[int] = []

    @property
    def write(self) -> Write:
        return self.send

    def send(self, frame: Any) -> None:
        raise NotImplementedError

    def behind(self) -> bool:
        raise NotImplementedError

    def waiting(self) -> int:
        raise NotImplementedError

    async def drained(self) -> None:
        raise NotImplementedError

    def close(self, reason: Disconnect) -> None:
        self.codes.append(reason.code)


class Pauses(list[float]):
    """How long a drain would have slept, and what happens meanwhile."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)
        self.meanwhile()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    found = Pauses()
    monkeypatch.setattr("gateway.transports.base.asyncio.sleep", found.sleep)
    return found


def crowd(shutdown: dict[str, Any], count: int) -> tuple[Acceptor, Node, list[Closing]]:
    settings = Settings.model_validate({"shutdown": shutdown})
    node = Node(settings, MemoryBroker(), MemoryPresence(), blocks=MemoryBlocks())
    door = Acceptor(node, TokenVerifier(settings.client))
    transports = [Closing() for _ in range(count)]
    for transport in transports:
        door.open(Wire(CentrifugeJson(), bytes.decode), transport, scope())
    return door, node, transports


@pytest.mark.parametrize(
    ("shutdown", "seconds"),
    [({"drain_rate": 100, "drain_time": "5s"}, 5.0), ({"drain_rate": 500}, 2.0)],
    ids=["in the time", "at the rate"],
)
async def test_a_drain_is_spread(shutdown: dict[str, Any], seconds: float, pauses: Pauses) -> None:
    door, node, transports = crowd(shutdown, 1000)
    batches: list[int] = []
    disconnected = 0

    def count() -> None:
        nonlocal disconnected
        now = sum(len(transport.codes) for transport in transports)
        batches.append(now - disconnected)
        disconnected = now

    pauses.meanwhile = count
    await door.drain()
    assert node.draining
    assert [transport.codes for transport in transports] == [[3001]] * 1000
    assert sum(pauses) == pytest.approx(seconds, abs=0.2)
    assert max(batches) <= 1000 * 0.16 / seconds + 1


async def test_few_connections_are_drained_at_once(pauses: Pauses) -> None:
    door, _, transports = crowd({}, 5)
    await door.drain()
    assert [transport.codes for transport in transports] == [[3001]] * 5
    assert not pauses
    await door.drain()


async def test_a_drain_ends_with_the_last_client(pauses: Pauses) -> None:
    door, _, _ = crowd({"drain_rate": 1}, 100)
    everybody = list(door.sessions)
    pauses.meanwhile = door.sessions.clear
    await door.drain()
    assert len(pauses) == 1
    assert sum(session.closed for session in everybody) == 1


async def test_a_node_that_is_cut_off_moves_those_who_are_there(pauses: Pauses) -> None:
    """And takes in whoever comes, for the others may be no better off."""
    door, node, transports = crowd({"drain_rate": 1}, 100)
    late = Closing()

    def arrive() -> None:
        if late not in (session.transport for session in door.sessions):
            door.open(Wire(CentrifugeJson(), bytes.decode), late, scope())

    pauses.meanwhile = arrive
    await door.move(5.0)
    assert [transport.codes for transport in transports] == [[3011]] * 100
    assert sum(pauses) == pytest.approx(5.0, abs=0.6)
    assert late.codes == []
    assert not node.draining
    assert refused(door) is None


def test_finds_the_first_header_of_a_name() -> None:
    found = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]}
    assert header(found, b"b") == b"2"
    assert header(found, b"c") is None


async def test_a_drain_tells_how_many_and_what_is_left(pauses: Pauses, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.transports.base")
    door, _, _ = crowd({"drain_rate": 1, "drain_time": "3s"}, 30)
    await door.drain()
    assert [record.getMessage() for record in caplog.records] == [
        "draining: 30 clients are sent elsewhere within 3 s",
        "drained: 30 clients in 0.0 s, 30 of them are still to answer",
    ]


def test_the_address_of_a_client_is_known_to_its_session() -> None:
    door, _ = acceptor()
    asked = scope() | {"client": ("203.0.113.9", 1)}
    session = door.open(Wire(CentrifugeJson(), bytes.decode), Client(), asked)  # type: ignore[arg-type]
    assert session.address == "203.0.113.9"


# — addresses —


def opened(door: Acceptor, asked: dict[str, Any]) -> ClientSession:
    return door.open(Wire(CentrifugeJson(), bytes.decode), Client(), asked)  # type: ignore[arg-type]


async def test_connections_of_an_address_are_counted_from_open_to_close() -> None:
    door, _ = acceptor(address_connection_limit=2)
    session = opened(door, at("10.0.0.1"))
    opened(door, at("10.0.0.1"))
    assert refused(door, at("10.0.0.1")) == TOO_MANY_REQUESTS
    assert refused(door, at("10.0.0.2")) is None
    door.close(session)
    door.close(session)  # as a transport may that has said so before
    assert refused(door, at("10.0.0.1")) is None
    opened(door, at("10.0.0.1"))
    assert refused(door, at("10.0.0.1")) == TOO_MANY_REQUESTS


async def test_a_failure_to_leave_does_not_keep_a_connection_from_closing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, node = acceptor(insecure=True)
    session = opened(door, at("10.0.0.1"))
    monkeypatch.setattr(node.hub, "close", lambda _: 1 / 0)
    door.close(session)
    assert session.closed
    assert not door.sessions
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize(
    "asked",
    [
        at("10.0.0.1"),
        at(None),
        at("10.0.0.1", x_forwarded_for="8.8.8.8"),
        at("127.0.0.1"),
        at("127.0.0.1", x_forwarded_for="6.6.6.6, 8.8.8.8"),
        at("unix", x_forwarded_for="8.8.8.8:99"),
    ],
)
def test_who_asks_by_a_request_is_whom_its_scope_says(asked: dict[str, Any]) -> None:
    door, _ = acceptor()
    request = UpgradeRequest("/", asked["headers"], b"")
    request.client = asked["client"]
    assert door.peer_of(request) == door.peer(asked)
    assert request.scope == {name: asked[name] for name in ("client", "headers")}


async def test_a_network_of_ipv6_counts_as_one_address() -> None:
    door, _ = acceptor(address_connection_limit=1)
    opened(door, at("2a00:1450:1:2::1"))
    assert refused(door, at("2a00:1450:1:2:ffff::9")) == TOO_MANY_REQUESTS
    assert refused(door, at("2a00:1450:1:3::1")) is None


async def test_clients_behind_a_proxy_count_by_themselves() -> None:
    door, _ = acceptor(address_connection_limit=1)
    proxied = at("127.0.0.1", x_forwarded_for="6.6.6.6, 8.8.8.8")
    assert opened(door, proxied).spender.network == ("8.8.8.8", True)
    assert refused(door, proxied) == TOO_MANY_REQUESTS
    assert refused(door, at("127.0.0.1", x_forwarded_for="8.8.8.8, 6.6.6.6")) is None
    assert refused(door, at("8.8.8.8", x_forwarded_for="9.9.9.9")) == TOO_MANY_REQUESTS  # of its own making


async def test_a_server_that_does_not_tell_where_clients_are() -> None:
    door, _ = acceptor(address_connection_limit=1)
    for _ in range(3):
        assert refused(door, at(None)) is None
        assert opened(door, at(None)).spender.network == ("", False)


async def test_a_proxy_that_nobody_has_named_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    door, _ = acceptor()
    for asked in (
        at("8.8.8.8", x_forwarded_for="9.9.9.9"),  # a stranger may say anything
        at("127.0.0.1", x_forwarded_for="9.9.9.9"),
        at("10.0.0.1"),
    ):
        assert refused(door, asked) is None
    assert caplog.records == []
    for _ in range(3):
        assert refused(door, at("10.0.0.1", x_forwarded_for="9.9.9.9")) is None
    [record] = caplog.records
    assert record.getMessage().startswith("10.0.0.1 sends X-Forwarded-For and is not believed")


async def test_other_settings_hold_at_once() -> None:
    door, node = acceptor(allowed_origins=["https://a.net"], connection_limit=1)
    session = opened(door, at("8.8.8.8"))
    assert refused(door) == UNAVAILABLE
    client = {
        "allowed_origins": ["https://b.net"],
        "connection_rate_limit": 1,
        "address_connection_limit": 1,
        "rate_limit": {"client_command": {"enabled": True, "publish": "7/minute"}},
    }
    http_server = {"forwarded_allow_ips": "10.0.0.1"}
    node.settings = Settings.model_validate({"client": client, "http_server": http_server})
    door.reload()
    assert refused(door, scope(origin="https://a.net")) == FORBIDDEN
    assert refused(door, at("10.0.0.1", x_forwarded_for="8.8.8.8")) == TOO_MANY_REQUESTS
    assert refused(door, scope(origin="https://b.net")) is None
    assert refused(door) == UNAVAILABLE  # the rate
    assert node.limiter.of_commands(session.spender.network) is not None


def test_a_node_whose_files_are_scarce_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    door, _ = acceptor()
    assert door.condition() is None
    monkeypatch.setattr(files, "scarce", lambda: True)
    condition = door.condition()
    assert condition is not None
    assert condition.status == "full"
