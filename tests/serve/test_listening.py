"""Which sockets there are: of ports, of paths, of systemd."""

import json
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect, unix_connect

from gateway.config.places import Place
from gateway.config.settings import AdminSettings, HTTPServerSettings, Settings
from gateway.serve.errors import ServeError
from gateway.serve.listening import Listeners, announce, bind_all
from gateway.serve.systemd import Watchdog
from gateway.serve.unix_socket import UnixSocket
from tests.integration.processes import program
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.serve.gateways import Gateway
from tests.serve.processes import Process, settings_file
from tests.waiting import until_blocking

Start = Callable[..., Process]


def hosts(place: Place, **options: object) -> list[str]:
    found = bind_all(place, shared=False, **options)  # type: ignore[arg-type]
    try:
        assert len({sock.getsockname()[1] for sock in found}) <= 1, "one port for all"
        return [sock.getsockname()[0] for sock in found]
    finally:
        for sock in found:
            sock.close()


# — ports —


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("127.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("", ["0.0.0.0", "::"]),
        ("::", ["0.0.0.0", "::"]),
        ("0.0.0.0", ["0.0.0.0"]),
        ("::ffff:127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_the_addresses_of_a_host(host: str, bound: list[str]) -> None:
    assert hosts(Place(host, 0)) == bound


def test_a_name_has_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    names = {"both": ["::1", "127.0.0.1", "127.0.0.1"], "half": ["2001:db8::1", "127.0.0.1"], "none": ["2001:db8::1"]}

    def resolve(host: str | None, *args: object, **kwargs: object) -> object:
        found = [real(each, *args, **kwargs)[0] for each in names.get(host or "", [])]  # type: ignore[arg-type]
        return found or real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert hosts(Place("both", 0)) == ["::1", "127.0.0.1"]
    assert hosts(Place("half", 0)) == ["127.0.0.1"], "what this machine lacks is left out"
    with pytest.raises(ServeError, match=r"cannot listen on \[2001:db8::1\]:0: Cannot assign"):
        hosts(Place("none", 0))
    assert hosts(Place("both", 5), taken={("::1", 5), ("127.0.0.1", 5)}) == []


def test_a_port_that_is_taken_in_one_family_leaves_nothing_open() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServeError, match=rf"cannot listen on \[::\]:{port}: Address already in use"):
            bind_all(Place("", port), shared=False)
        with socket.socket() as again:
            again.bind(("0.0.0.0", port))


def test_each_worker_has_a_socket_of_its_own_on_every_port(tmp_path: Path) -> None:
    http = HTTPServerSettings(address=f"127.0.0.1,[::1],unix:{tmp_path}/g.sock", port=0, internal_port=0, workers=2)
    with Listeners(http) as listeners:
        listeners.widen(3)
        listeners.widen(1)
        assert listeners.workers == 3
        told = [(each.worker, each.internal, each.is_unix) for each in listeners.all]
        for worker in range(3):
            assert [each[1:] for each in told if each[0] == worker] == [
                (False, False), (False, False), (True, False), (True, False)
            ]  # fmt: skip
        assert [each for each in told if each[0] is None] == [(None, False, True)]
        ports = {each.sock.getsockname()[1] for each in listeners.all if not each.is_unix}
        assert len(ports) == 4, "and the same one for all workers"
    assert not (tmp_path / "g.sock").exists()
    assert all(each.sock.fileno() < 0 for each in listeners.all)


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        http = HTTPServerSettings(address=(f"unix:{tmp_path}/g.sock", f"127.0.0.1:{port}"))
        with pytest.raises(ServeError, match="already in use"):
            Listeners(http)
    assert not (tmp_path / "g.sock").exists()


def test_every_place_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    http = HTTPServerSettings(
        address=("", f"unix:{tmp_path}/g.sock"), port=0, internal_address="127.0.0.1", internal_port=0, root_path="rt"
    )
    with Listeners(http) as listeners:
        admin = AdminSettings(enabled=True, insecure=True)
        announce(Settings(http_server=http, admin=admin), listeners.all)
        port = listeners.all[0].sock.getsockname()[1]
        inner = listeners.all[-1].sock.getsockname()[1]
    assert [record.getMessage() for record in caplog.records] == [
        f"for operators: http://127.0.0.1:{inner}/rt",
        f"listening on http://[::1]:{port}/rt, too",
        f"listening on unix:{tmp_path}/g.sock, too",
        f"admin page: http://127.0.0.1:{inner}/rt/admin/",
        f"ready on http://127.0.0.1:{port}/rt and ws://127.0.0.1:{port}/rt/connection/websocket",
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_of_all_addresses_appears_with_its_own(start: Start, tmp_path: Path, workers: int) -> None:
    process = start(file=settings_file(tmp_path, {"address": "::", "port": 0, "workers": workers})).ready()
    for host, client in (("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")):
        place = f"{host}:{process.port}"
        assert httpx.get(f"http://{place}/").json()["client"] == client
        with connect(f"ws://{place}/", proxy=None) as websocket:
            assert websocket.response is not None
            assert json.loads(websocket.response.headers["x-seen"])["client"] == client


def test_who_comes_by_a_unix_socket_is_believed(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    start(file=settings_file(tmp_path, {"address": f"unix:{path}"})).ready()
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://gateway") as client:
        assert client.get("/").json()["client"] == "unix"
        forwarded = {"X-Forwarded-For": "198.51.100.7, 192.0.2.1", "X-Forwarded-Proto": "https"}
        seen = client.get("/", headers=forwarded).json()
        assert (seen["client"], seen["scheme"]) == ("192.0.2.1", "https"), "of several, whom the proxy saw itself"
    with unix_connect(str(path), "ws://gateway/", additional_headers=forwarded) as websocket:
        assert websocket.response is not None
        assert json.loads(websocket.response.headers["x-seen"])["client"] == "192.0.2.1"


# — Unix sockets —


def test_a_socket_has_its_mode_and_goes_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    unix = UnixSocket(str(path), 0o640)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    unix.sock.close()
    unix.remove()
    assert not path.exists()
    unix.remove()


def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "g.sock")
    UnixSocket(path, 0o600).sock.close()
    again = UnixSocket(path, 0o600)
    again.sock.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    again.sock.close()


def test_a_file_that_has_taken_the_place_of_ours_is_left(tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    unix = UnixSocket(str(path), 0o600)
    unix.sock.close()
    with (tmp_path / "other").open("w"):
        os.rename(tmp_path / "other", path)
    unix.remove()
    assert path.exists()


@pytest.mark.parametrize("backlog", [100, 0])
def test_a_living_socket_is_not_taken_over(tmp_path: Path, backlog: int) -> None:
    path = str(tmp_path / "g.sock")
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(path)
        living.listen(backlog)
        waiting.connect(path)  # with no room for another
        with pytest.raises(ServeError, match=f"unix:{path}: another process listens there"):
            UnixSocket(path, 0o600)
    assert os.path.exists(path)


def test_what_is_no_socket_is_left(tmp_path: Path) -> None:
    (tmp_path / "g.sock").write_text("precious")
    with pytest.raises(ServeError, match="that is a file, and no socket"):
        UnixSocket(str(tmp_path / "g.sock"), 0o600)
    assert (tmp_path / "g.sock").read_text() == "precious"


@pytest.mark.parametrize("path", ["nowhere/g.sock", "x" * 200])
def test_a_path_that_cannot_be_bound_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(ServeError, match=r"cannot listen on unix:.*choose another path"):
        UnixSocket(str(tmp_path / path), 0o600)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_on_a_unix_socket(server: RedisServer, tmp_path: Path, workers: int) -> None:
    """The command line finds it there; what a proxy forwards is believed; and after a crash it starts again."""
    path = tmp_path / "g.sock"
    http = {"address": f"unix:{path}", "workers": workers, "unix_socket_mode": "600"}
    gateway = Gateway(tmp_path, http, server.url if workers > 1 else "")
    with gateway:
        assert f"ready on unix:{path}" in gateway.log
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listening = Gateway(tmp_path, http, server.url if workers > 1 else "", "listen")
        listening.listen("news")
        with listening:
            listening.logged("subscribed to news")
            gateway.run("publish", "news", '"hello"')
            listening.logged('"hello"')
        refused = gateway.ran("serve")
        assert (refused.returncode, "another process listens there" in refused.stderr) == (1, True)
        with unix_connect(str(path), "ws://gateway/connection/websocket") as client:
            client.ping().wait(10)
        gateway.signal(signal.SIGKILL)
        until_blocking(lambda: not gateway.alive)
        until_blocking(lambda: not listens(path), deadline=20, what="the end of the workers")
        assert path.exists()
    with Gateway(tmp_path, http, server.url if workers > 1 else "", "again") as again:
        again.run("publish", "a", "1")
    assert not path.exists()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


# — systemd —


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_opens_the_sockets(server: RedisServer, tmp_path: Path, workers: int) -> None:
    """One for clients, one by its name for operators; with workers, through a rolling restart."""
    port, inner = free_port(), free_port()
    activate = [program("systemd-socket-activate", "systemd")]
    activate += [f"--listen=127.0.0.1:{port}", f"--listen=127.0.0.1:{inner}", "--fdname=clients:internal"]
    http = {"workers": workers, "port": 1}  # which nobody here may bind, and nobody does
    gateway = Gateway(tmp_path, http, server.url if workers > 1 else "")
    gateway.start_by(*activate)
    with gateway:
        until_blocking(lambda: listening_on(port) or None, deadline=20)
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 404
        gateway.ready()
        assert "systemd has opened the sockets" in gateway.log
        assert httpx.get(f"http://127.0.0.1:{inner}/health/ready").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 404
        with connect(f"ws://127.0.0.1:{port}/connection/websocket", proxy=None) as client:
            client.ping().wait(10)
            if workers > 1:
                gateway.signal(signal.SIGHUP)
                gateway.logged("the rolling restart is done")
                assert httpx.get(f"http://127.0.0.1:{inner}/health/ready").status_code == 200


def listening_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_descriptor_that_does_not_listen_is_told(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {})
    shell = 'exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    gateway.start_by("sh", "-c", shell, "sh")
    with gateway:
        gateway.logged("descriptor 3, which systemd passes, is no listening stream socket")
        until_blocking(lambda: not gateway.alive)


def test_sockets_for_another_process_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with Listeners(HTTPServerSettings(port=0)) as listeners:
        assert len(listeners.all) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_watchdog_hears_of_a_process_that_moves(server: RedisServer, tmp_path: Path, workers: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        gateway = Gateway(tmp_path, {"workers": workers}, server.url if workers > 1 else "")
        gateway.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
        with gateway:
            heard = {systemd.recv(100)}
            while len(heard) < 2:
                heard.add(systemd.recv(100))
        assert heard == {b"READY=1", b"WATCHDOG=1"}


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_nothing_is_told(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    told: list[str] = []
    monkeypatch.setattr("gateway.serve.systemd.notify", told.append)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Watchdog().beat(1000.0)
    assert not told


def test_the_watchdog_hears_twice_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("gateway.serve.systemd.notify", told.append)
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    watchdog = Watchdog()
    for now in (10.0, 11.0, 11.9, 12.0, 13.9, 14.0):
        watchdog.beat(now)
    assert told == ["WATCHDOG=1"] * 3


def test_who_ends_leaves_the_file_of_a_successor(tmp_path: Path) -> None:
    path = str(tmp_path / "g.sock")
    ending = UnixSocket(path, 0o600)
    ending.sock.close()
    successor = UnixSocket(path, 0o600)  # whose file may have the number of the other
    ending.remove()
    assert Path(path).exists()
    successor.sock.close()
    successor.remove()
    assert not Path(path).exists()
