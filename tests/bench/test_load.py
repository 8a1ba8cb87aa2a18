"""One process's load, against a real gateway and against servers that do one thing differently."""

import itertools
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from gateway.auth.tokens import sign_connection
from gateway.bench import limits
from gateway.bench.dialect import CENTRIFUGE, CENTRIFUGE_PROTOBUF, Dialect, message, now
from gateway.bench.load import Load
from gateway.bench.plan import LoadError, Plan
from gateway.bench.report import Report
from tests.bench.servers import BARE, ECHO, Room, raw, websockets
from tests.integration.servers import GatewayServer
from tests.integration.tokens import SECRET

TOKENS = (sign_connection(SECRET, "bench", 0),)


def plan(port: int, **changes: Any) -> Plan:
    return Plan(**{"port": port, "connections": 6, "seconds": 0.3, "warmup": 0.0, "connect_timeout": 5.0, **changes})


@contextmanager
def loading(plan: Plan, **hooks: Any) -> Iterator[Load]:
    load = Load(plan, **hooks)
    try:
        load.connect()
        yield load
    finally:
        load.close()


def refusals(port: int, **changes: Any) -> dict[str, int]:
    """How connections fail."""
    with loading(plan(port, **changes)) as load:
        assert not any(load.subscribers)
        return dict(load.errors)


# — a gateway —


def measured(gateway: GatewayServer, **changes: Any) -> Report:
    with loading(plan(gateway.port, tokens=TOKENS, **changes)) as load:
        return load.measure()


@pytest.mark.parametrize("dialect", [CENTRIFUGE, CENTRIFUGE_PROTOBUF], ids=["json", "protobuf"])
def test_a_closed_loop_delivers_to_everybody(gateway: GatewayServer, dialect: Dialect) -> None:
    report = measured(gateway, inflight=3, dialect=dialect)
    assert report.errors == {}
    assert report.connected == report.asked == 6
    assert report.connects_per_second > 0
    assert report.messages > 3
    assert abs(report.deliveries - 6 * report.messages) <= 6 * 3  # what is in flight at the end
    assert report.deliveries_per_second == pytest.approx(6 * report.messages_per_second, rel=18 / report.deliveries)
    assert 0 < report.latency.percentile(0.5) <= report.latency.maximum < 5
    assert sum(report.latency.counts.values()) > 0
    assert report.out_of_order == 0
    assert 0 < report.busy <= 1.1


def test_an_open_loop_keeps_its_rate(gateway: GatewayServer) -> None:
    report = measured(gateway, rate=100.0, seconds=0.5, channels=2)
    assert 40 <= report.messages <= 60
    assert abs(report.deliveries - 3 * report.messages) <= 6


@pytest.mark.parametrize("publishers", ["one", "each"])
def test_channels_and_publishers(gateway: GatewayServer, publishers: str) -> None:
    with loading(plan(gateway.port, tokens=TOKENS, channels=3, publishers=publishers, inflight=6)) as load:
        assert load.subscribers == [2, 2, 2]
        report = load.measure()
    assert report.errors == {}
    assert all(load.delivered)
    assert max(load.delivered) - min(load.delivered) <= 6 * 2


def test_idle_connections_answer_pings(gateway: GatewayServer) -> None:
    report = measured(gateway, publishers="none", seconds=2.5)  # it pings each second
    assert report.errors == {}
    assert (report.messages, report.deliveries) == (0, 0)


def test_busy_connections_answer_pings(gateway: GatewayServer) -> None:
    assert measured(gateway, seconds=2.5).errors == {}


def test_measuring_again_goes_on(gateway: GatewayServer) -> None:
    steps: list[tuple[str, float, float]] = []
    with loading(plan(gateway.port, tokens=TOKENS, warmup=0.2)) as load:
        first = load.measure(progress=lambda *step: steps.append(step))
        again = load.measure(0.2, lambda *step: steps.append(step))
    assert first.seconds == pytest.approx(0.3, abs=0.2)
    assert again.seconds == pytest.approx(0.2, abs=0.2)
    assert first.deliveries > 0 < again.deliveries
    names = [name for name, _, _ in steps]
    assert names == sorted(names, reverse=True)  # first "warming up", then "measuring"
    assert {name: whole for name, _, whole in steps if name == "warming up"} == {"warming up": 0.2}


def test_connecting_is_told(gateway: GatewayServer) -> None:
    steps: list[tuple[str, float, float]] = []
    load = Load(plan(gateway.port, tokens=TOKENS, connect_concurrency=1))
    load.connect(lambda *step: steps.append(step))
    load.close()
    assert steps
    assert all(name == "connecting" and done <= whole == 6 for name, done, whole in steps)


def test_large_messages(gateway: GatewayServer) -> None:
    report = measured(gateway, size=50_000, inflight=4)
    assert report.errors == {}
    assert report.deliveries > 6


def test_several_source_addresses(gateway: GatewayServer) -> None:
    report = measured(gateway, sources=3)
    assert report.connected == 6
    assert report.deliveries > 0


def test_a_token_that_is_none(gateway: GatewayServer) -> None:
    assert refusals(gateway.port, tokens=("x.y.z",)) == {"closed 3500: invalid token": 6}


def test_a_channel_where_nobody_may(gateway: GatewayServer) -> None:
    assert refusals(gateway.port, tokens=TOKENS, prefix="closed:") == {"subscribe: permission denied (103)": 6}


def test_a_path_where_nothing_is(gateway: GatewayServer) -> None:
    dialect = Dialect(path="/nothing")
    [(kind, count)] = refusals(gateway.port, dialect=dialect).items()
    assert kind.startswith("HTTP 4")
    assert count == 6


# — connections that do not come about —


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refusals(port) == {"connection refused": 6}


def test_what_has_no_hope_is_not_tried_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    [count] = refusals(port, connections=5000).values()
    assert 100 <= count < 1000


def test_a_server_that_is_full() -> None:
    with websockets(Room(), status=HTTPStatus.SERVICE_UNAVAILABLE) as port:
        assert refusals(port) == {"HTTP 503 Service Unavailable": 6}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the server speaks no WebSocket"),
        (b"", "closed without a word"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x88\x02\x03\xe8", "closed 1000"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00", "closed without a word"),
    ],
)
def test_servers_that_say_something_else(answer: bytes, kind: str) -> None:
    with raw(answer) as port:
        assert refusals(port) == {kind: 6}


def test_a_server_that_says_nothing() -> None:
    with raw(None) as port:
        assert refusals(port, connect_timeout=0.2) == {"timed out after 0.2 s": 6}


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(LoadError, match="no-such-host"):
        Load(Plan(host="no-such-host.invalid")).connect()


def test_a_host_with_several_addresses(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is taken where somebody listens."""
    found = socket.getaddrinfo("127.0.0.1", gateway.port, type=socket.SOCK_STREAM)
    deaf = [(*found[0][:4], ("127.0.0.9", gateway.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: deaf + found)
    report = measured(gateway, host="somewhere")
    assert report.connected == 6


def test_files_run_out(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("gateway.bench.opening.socket.socket", none)
    assert refusals(gateway.port) == {"too many open files": 6}


def test_ports_run_out(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: 99)
    assert refusals(gateway.port) == {"no free port to connect from: take more source addresses": 6}


def test_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (50, 150))
    assert limits.room() == 50
    with pytest.raises(LoadError, match="ulimit -n"):
        Load(Plan(connections=51)).connect()


def test_the_limit_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1000, 5000))
    monkeypatch.setattr("resource.setrlimit", lambda _, limit: raised.append(limit))
    limits.make_room(900)
    assert not raised
    limits.make_room(901)
    assert raised == [(1001, 5000)]
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert limits.room() > 1_000_000
    limits.make_room(100_000)
    assert len(raised) == 1


# — other dialects —


def test_a_server_without_a_greeting() -> None:
    with websockets(Room()) as port, loading(plan(port, dialect=ECHO)) as load:
        report = load.measure()
    assert report.errors == {}
    assert abs(report.deliveries - 6 * report.messages) <= 12


def test_step_by_step() -> None:
    """As Socket.IO greets."""
    room, heard = Room(), []

    def greet(connection: ServerConnection) -> None:
        connection.send('0{"sid":"x"}')
        heard.append(connection.recv())
        connection.send('40{"sid":"y"}')
        heard.append(connection.recv())
        connection.send("joined")
        room(connection)

    dialect = Dialect(
        path="/?x=1",
        hello=(b"40", b'42["join","{channel}"]'),
        steps=(b"0{", b"40{"),
        ready=b"joined",
        ping=b"2",
        pong=b"3",
    )
    with websockets(greet) as port, loading(plan(port, connections=1, dialect=dialect)) as load:
        assert heard == ["40", '42["join","bench0"]']
        assert load.subscribers == [1]


def test_each_says_its_own_and_what_it_is_told_is_handed_on() -> None:
    def answer(connection: ServerConnection) -> None:
        said = connection.recv(decode=True)
        connection.send(f"you said {said}")
        connection.recv()

    told: dict[int, bytes] = {}
    changes = {"dialect": Dialect(path="/", ready=b"you said "), "connections": 3, "channels": 3}
    hellos = ((b"one",), (b"{channel}",))
    with websockets(answer) as port, loading(plan(port, hellos=hellos, **changes), confirmed=told.__setitem__):
        assert told == {0: b"one", 1: b"bench1", 2: b"one"}


def test_subprotocols_are_asked_for() -> None:
    names: list[str | None] = []
    dialect = Dialect(path="/", names=("a", "b"))
    options: dict[str, Any] = {"subprotocols": ["b"]}
    with (
        websockets(lambda connection: names.append(connection.subprotocol), **options) as port,
        loading(plan(port, connections=1, dialect=dialect)),
    ):
        pass
    assert names == ["b"]


def test_pings_of_both_kinds_are_answered() -> None:
    answers: list[object] = []
    done = threading.Event()

    def ping(connection: ServerConnection) -> None:
        connection.send("2")
        answers.append(connection.recv())
        answers.append(connection.ping(b"abc").wait(5))
        done.set()
        connection.recv()

    dialect = Dialect(path="/", ping=b"2", pong=b"3")
    with websockets(ping) as port, loading(plan(port, connections=1, dialect=dialect)) as load:
        load.wait(done.is_set)
    assert answers == ["3", True]


def test_what_comes_with_the_upgrade_counts() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x28" + message(now(), 40)
    with raw(answer) as port, loading(plan(port, dialect=BARE)) as load:
        load.wait(lambda: not any(load.subscribers))
        assert load.delivered == [6]


def test_publishing_by_another_way() -> None:
    room, waiting = Room(), list[bytes]()

    def publish(channel: int, data: bytes) -> None:
        assert channel == 0
        waiting.append(data)

    def flush() -> None:
        while waiting:
            room.send(waiting.pop().decode())

    with websockets(room) as port, loading(plan(port, dialect=ECHO), publish=publish, flush=flush) as load:
        report = load.measure()
    assert report.deliveries > 6
    assert abs(report.deliveries - 6 * report.messages) <= 12


# — trouble on the way —


def test_publishing_where_it_is_not_allowed(gateway: GatewayServer) -> None:
    dialect = Dialect(
        path=CENTRIFUGE.path,
        hello=CENTRIFUGE.hello,
        ready=CENTRIFUGE.ready,
        publish=b'{"id":3,"publish":{"channel":"closed:x","data":{data}}}',
    )
    report = measured(gateway, dialect=dialect)
    assert report.errors == {"publish: permission denied (103)": 2}  # as many as are in flight
    assert report.deliveries == 0


def test_connections_that_are_closed_are_counted_and_the_rest_goes_on() -> None:
    room, numbers = Room(), itertools.count()

    def send_away(connection: ServerConnection) -> None:
        for text in connection:
            if next(numbers) == 5:
                for other in [other for other in room.connections if other is not connection][:2]:
                    other.close(3008, "slow")
            room.send(text)

    def handle(connection: ServerConnection) -> None:
        room.join(connection)
        with suppress(ConnectionClosed):
            send_away(connection)

    with websockets(handle) as port, loading(plan(port, dialect=ECHO, inflight=1)) as load:
        report = load.measure()
        assert load.subscribers == [4]
    assert report.errors == {"closed 3008: slow": 2}
    assert report.messages > 8
    assert report.deliveries == pytest.approx(4 * report.messages, abs=6 * 6)


@pytest.mark.parametrize("rate", [0.0, 100.0])
def test_nobody_is_left(rate: float) -> None:
    room = Room()
    with websockets(room) as port, loading(plan(port, dialect=ECHO, rate=rate)) as load:
        for connection in room.connections:
            connection.socket.shutdown(socket.SHUT_RDWR)
        report = load.measure()
        assert load.subscribers == [0]
    assert sum(report.errors.values()) == 6
    assert all(kind.startswith("connection lost") for kind in report.errors)
    assert report.deliveries == 0


def test_who_leaves_with_the_last_delivery_holds_nobody_up() -> None:
    room, numbers = Room(), itertools.count()

    def handle(connection: ServerConnection) -> None:
        room.join(connection)
        with suppress(ConnectionClosed):
            for text in connection:
                if next(numbers):
                    room.send(text)
                else:
                    connection.send(text)
                    next(other for other in room.connections if other is not connection).close()

    with websockets(handle) as port, loading(plan(port, dialect=ECHO, connections=2, inflight=1)) as load:
        report = load.measure()
    assert report.errors == {"closed 1000": 1}
    assert report.messages > 2


def test_what_is_gone_is_gone(gateway: GatewayServer) -> None:
    """Events of a connection may follow its end, when they came together."""
    with loading(plan(gateway.port, tokens=TOKENS)) as load:
        fd = load._members[0][0]
        for _ in range(2):
            load.lost(fd, "connection lost")
        load.writable(fd)
        load.asked(fd, b"", control=True)
        assert load.errors == {"connection lost": 1}
        assert load.subscribers == [5]


def test_a_socket_that_takes_nothing_is_tried_again(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    send, refusals = socket.socket.send, iter(range(3))

    def full(connection: socket.socket, data: bytes) -> int:
        for _ in refusals:
            raise BlockingIOError
        return send(connection, data)

    with loading(plan(gateway.port, tokens=TOKENS)) as load:
        monkeypatch.setattr(socket.socket, "send", full)
        report = load.measure()
    assert report.errors == {}
    assert report.deliveries > 6


def test_other_processes_are_heard(gateway: GatewayServer) -> None:
    """The next message waits for them, too; what they tell before the first is of no matter."""
    ours, theirs = socket.socketpair()

    def receive() -> list[tuple[int, int, int]]:
        return [(1, 0, len(ours.recv(1000)))]

    with ours, theirs, loading(plan(gateway.port, tokens=TOKENS, inflight=1)) as load:
        load.hear(ours.fileno(), receive, [load.subscribers, [1]])
        theirs.send(b"early")
        load.wait(lambda: not select.select([ours], (), (), 0)[0])
        assert load.measure().deliveries == 6
        theirs.send(b"123")
        assert load.measure().messages == 3


def test_lost_messages_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.bench.load.STALLED", 0.2)
    monkeypatch.setattr("gateway.bench.publishing.STALLED", 0.2)
    room = Room()

    def forgetful(connection: ServerConnection) -> None:
        room.join(connection)
        connection.recv()
        with suppress(ConnectionClosed):
            for text in connection:
                room.send(text)

    with (
        websockets(forgetful) as port,
        loading(plan(port, connections=1, dialect=ECHO, inflight=1, seconds=0.8)) as load,
    ):
        report = load.measure()
    assert report.errors["message not delivered for 0.2 s"] == 1
    assert report.deliveries > 1


def test_a_server_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take waits, up to a limit."""
    monkeypatch.setattr("gateway.bench.load._UNSENT", 1_000_000)
    go_on = threading.Event()

    def slow(connection: ServerConnection) -> None:
        go_on.wait(30)
        room(connection)

    room = Room()
    options = {"dialect": BARE, "connections": 1, "size": 500_000, "rate": 200.0}
    with websockets(slow, max_size=None, max_queue=1) as port, loading(plan(port, **options)) as load:
        report = load.measure()
        assert report.errors["not sent: the server does not read"] > 0
        assert report.deliveries == 0
        go_on.set()
        sent = report.messages - report.errors["not sent: the server does not read"]
        load.wait(lambda: load.delivered[0] == sent)


def test_a_server_that_breaks_off_while_one_sends(gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_socket: socket.socket, _data: bytes) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    with loading(plan(gateway.port, tokens=TOKENS)) as load:
        monkeypatch.setattr(socket.socket, "send", broken)
        report = load.measure()
    assert report.errors == {"connection lost: Broken pipe": 2}  # the first, and who published for it


def test_interrupted(gateway: GatewayServer) -> None:
    def interrupt(what: str, done: float, _whole: float) -> None:
        if what == stage and done > 0.1:
            raise KeyboardInterrupt

    stage = "measuring"
    with loading(plan(gateway.port, tokens=TOKENS, seconds=60.0)) as load:
        report = load.measure(progress=interrupt)
    assert report.interrupted
    assert report.seconds < 30
    assert report.deliveries > 0
    stage = "warming up"
    with loading(plan(gateway.port, tokens=TOKENS, warmup=60.0)) as load:
        report = load.measure(progress=interrupt)
    assert report.interrupted
    assert (report.seconds, report.deliveries, report.deliveries_per_second) == (0, 0, 0)


def test_messages_out_of_order_are_counted() -> None:
    def back(connection: ServerConnection) -> None:
        text = str(connection.recv())
        later = json.loads(text)
        earlier = json.dumps({**later, "t": later["t"] - 1}, separators=(",", ":"))
        connection.send(text)
        connection.send(earlier)
        connection.recv()

    with websockets(back) as port, loading(plan(port, connections=1, dialect=BARE, inflight=1)) as load:
        assert load.measure().out_of_order == 1


# — TLS —


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(hours=1))
        .not_valid_after(today + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("size", [100, 300_000])
def test_tls(tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    options = {"secure": True, "dialect": ECHO, "size": size, "connections": 3}
    with websockets(Room(), tls, max_size=None) as port, loading(plan(port, **options)) as load:
        report = load.measure()
    assert report.errors == {}
    assert report.deliveries > 3


def test_tls_with_a_greeting(tls: ssl.SSLContext) -> None:
    room = Room()

    def greet(connection: ServerConnection) -> None:
        connection.send("who?")
        assert connection.recv() == "me"
        room(connection)

    dialect = Dialect(path="/", hello=(b"me",), steps=(b"who?",))
    with websockets(greet, tls) as port, loading(plan(port, secure=True, verify=False, dialect=dialect)) as load:
        assert load.measure().deliveries > 6


def test_tls_that_waits_to_write(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    shake_hands, refusals = ssl.SSLSocket.do_handshake, iter(range(3))

    def full(connection: ssl.SSLSocket) -> None:
        if not connection.server_side:
            for _ in refusals:
                raise ssl.SSLWantWriteError
        shake_hands(connection)

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", full)
    with websockets(Room(), tls) as port, loading(plan(port, secure=True, verify=False, dialect=ECHO)) as load:
        assert load.subscribers == [6]


def test_a_certificate_that_nobody_vouches_for(tls: ssl.SSLContext) -> None:
    with websockets(Room(), tls) as port:
        [(kind, count)] = refusals(port, secure=True, dialect=ECHO).items()
    assert kind.startswith("certificate: self")
    assert count == 6


def test_tls_where_there_is_none() -> None:
    with raw(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        [kind] = refusals(port, secure=True)
    assert kind.startswith("TLS: ")


def test_connections_over_tls_end(tls: ssl.SSLContext) -> None:
    room = Room()
    with (
        websockets(room, tls) as port,
        loading(plan(port, secure=True, verify=False, dialect=ECHO, publishers="none")) as load,
    ):
        for connection in room.connections:
            connection.socket.shutdown(socket.SHUT_RDWR)
        load.wait(lambda: not any(load.subscribers))
        assert load.errors.total() == 6
