"""The servers under test: gateways, and balancers in front of them."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.deploy.balancers import caddy_config, haproxy_config, nginx_config
from tests.integration.processes import Process, program
from tests.ports import free_port
from tests.waiting import until_blocking

START = 30.0
"""Seconds that a server has to come up, on a busy machine."""
TROUBLE = ("Traceback", "unhandled", "Unhandled", "Exception in")
"""Words that no log of a gateway may hold, whatever clients do."""


class Server(Process):
    """Something that speaks HTTP and WebSocket on a port of its own."""

    host = "127.0.0.1"

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, directory)
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    def answers(self, path: str) -> bool:
        """Whether a GET of ``path`` gives 200 just now."""
        try:
            return httpx.get(self.url + path, timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def wait(self, path: str = "/health/live") -> None:
        def up() -> bool:
            if not self.alive:
                raise AssertionError(f"{self.name} ended while it started:\n{self.log}")
            return self.answers(path)

        try:
            until_blocking(up, START, f"{self.name} answers {path}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None


class GatewayServer(Server):
    """One ``gateway serve`` process."""

    def __init__(
        self, name: str, directory: Path, settings: Mapping[str, Any], flags: Sequence[str] = (), **environment: str
    ) -> None:
        super().__init__(name, directory)
        self._config = directory / f"{name}.json"
        ours = {"http_server": {"port": self.port}, "node": {"name": name}}
        self._config.write_text(json.dumps({"shutdown": {"grace": 0}, **settings, **ours}))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self._environment = {**inherited, "PYTHONUNBUFFERED": "1", **environment}

        self._flags = flags
        self._checked = 0

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        self.run_module("gateway", ["serve", "--config", str(self._config), *self._flags], self._environment)

    def check_log(self) -> None:
        """What was logged since the last look must not hold a traceback."""
        lines = self.log[self._checked :]
        self._checked += len(lines)
        bad = [word for word in TROUBLE if word in lines]
        assert not bad, f"{self.name} logged {bad}:\n{lines}"

    def __enter__(self) -> "GatewayServer":
        self.start()
        with self.or_killed():
            self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self.check_log()


class Balancer(Server):
    """HAProxy, nginx or Caddy in front of gateways."""

    def __init__(self, name: str, directory: Path, command: Callable[[str], list[str]], config: str, port: int) -> None:
        super().__init__(name, directory)
        self.port = port
        self._file = directory / f"{name}.conf"
        self._file.write_text(config)
        self._command = command

    def __enter__(self) -> "Balancer":
        homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self._file.parent))  # Caddy writes there
        self.spawn(self._command(str(self._file)), {**os.environ, **homes})
        with self.or_killed():
            self.wait()
        return self


def haproxy(directory: Path, gateways: Sequence[Server]) -> Balancer:
    port = free_port()
    path = program("haproxy", "haproxy")
    config = haproxy_config(port, _addresses(gateways))
    return Balancer("haproxy", directory, lambda file: [path, "-db", "-f", file], config, port)


def nginx(directory: Path, gateways: Sequence[Server]) -> Balancer:
    port = free_port()
    path = program("nginx", "nginx")
    config = nginx_config(port, _addresses(gateways), directory)
    return Balancer("nginx", directory, lambda file: [path, "-c", file, "-g", "daemon off;"], config, port)


def caddy(directory: Path, gateways: Sequence[Server]) -> Balancer:
    port = free_port()
    path = program("caddy", "caddy")
    config = caddy_config(port, _addresses(gateways))
    return Balancer(
        "caddy", directory, lambda file: [path, "run", "--config", file, "--adapter", "caddyfile"], config, port
    )


def rewritten(balancer: Balancer, pattern: str, replacement: str) -> Balancer:
    """With another line in its configuration, which must have this one."""
    text, count = re.subn(pattern, replacement, balancer._file.read_text(), flags=re.MULTILINE)
    assert count, f"{pattern!r} does not stand in the configuration of {balancer.name}"
    balancer._file.write_text(text)
    return balancer


def round_robin(directory: Path, gateways: Sequence[Server]) -> Balancer:
    """The deployed configuration, but that each request goes to another node than the one before."""
    return rewritten(haproxy(directory, gateways), r"^    balance leastconn$", "    balance roundrobin")


def _addresses(gateways: Sequence[Server]) -> list[tuple[str, int]]:
    return [(gateway.host, gateway.port) for gateway in gateways]


@dataclass
class Cluster:
    """Two gateways on one Redis, and what balances between them."""

    a: GatewayServer
    b: GatewayServer
    balancer: Balancer


@contextmanager
def cluster(
    directory: Path,
    settings: Mapping[str, Any],
    balance: Callable[[Path, Sequence[Server]], Balancer] = haproxy,
) -> Iterator[Cluster]:
    with ExitStack() as stack:
        a, b = (GatewayServer(name, directory, settings) for name in ("a", "b"))
        for gateway in (a, b):
            gateway.start()
            stack.push(gateway)
        for gateway in (a, b):
            gateway.wait()
        yield Cluster(a, b, stack.enter_context(balance(directory, [a, b])))


@contextmanager
def cluster_of_one(directory: Path, settings: Mapping[str, Any]) -> Iterator[Cluster]:
    """One gateway in place of both."""
    with GatewayServer("one", directory, settings) as one, haproxy(directory, [one]) as balancer:
        yield Cluster(one, one, balancer)
