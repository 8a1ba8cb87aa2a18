"""Real gateways as processes, with what they listen on, and a proxy in front."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.forked import run
from tests.integration.processes import Process, program
from tests.ports import free_port
from tests.waiting import until_blocking

KEY = "key-of-the-tests"
SECRET = "a-secret-of-sufficient-length-for-hs256"

_READY = re.compile(r"ready on (\S+?),? (?:and (\S+)|with)")


class Gateway(Process):
    """One ``gateway serve``. Unless it has been started otherwise it is when entered, and ready."""

    def __init__(self, directory: Path, http: Mapping[str, Any], redis: str = "", name: str = "gateway") -> None:
        super().__init__(name, directory)
        self.config = directory / f"{name}.json"
        self.redis = redis
        self.write(http)

    def write(self, http: Mapping[str, Any]) -> None:
        """Write the file anew."""
        everybody = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
        client = {"token": {"hmac_secret_key": SECRET}, "message_timeout": "3s", "ping_interval": 0}  # none is answered
        settings: dict[str, Any] = {
            "http_server": {"port": 0, **http},
            "client": client,
            "http_api": {"key": KEY},
            "channel": {"without_namespace": everybody},
            "shutdown": {"grace": 0, "drain_time": 0},
        }
        if self.redis:
            settings["engine"] = {"type": "redis", "redis": {"address": self.redis}}
        self.config.write_text(json.dumps(settings))

    def start(self, **environ: str) -> None:
        self._run("serve", **environ)

    def start_by(self, *before: str) -> None:
        """Start it by a command that becomes the gateway, or has sockets for it."""
        self.spawn([*before, sys.executable, "-m", "gateway", *self._arguments("serve")], _environment())

    def listen(self, channel: str) -> None:
        """In place of a gateway, with its settings: what is published goes to the log."""
        self._run("listen", channel)

    def ready(self) -> "Gateway":
        until_blocking(lambda: "ready on" in self.log or not self.alive, deadline=30)
        assert "ready on" in self.log, self.log
        return self

    def logged(self, text: str, times: int = 1) -> None:
        until_blocking(lambda: self.log.count(text) >= times, deadline=30, what=f"{text!r} in the log:\n{self.log}")

    def __enter__(self) -> "Gateway":
        if self._popen is None:
            self.start()
            with self.or_killed():
                self.ready()
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        assert "Traceback" not in self.log, self.log

    @property
    def url(self) -> str:
        return self._told()[0]

    @property
    def ws_url(self) -> str:
        return self._told()[1]

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    @property
    def operators(self) -> str:
        """Where operators are served apart."""
        return self.log.split("for operators: ")[1].split()[0]

    def run(self, *arguments: str) -> str:
        """What the command line prints, with the settings of this gateway but for its port; it must succeed."""
        done = self.ran(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ran(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("gateway", self._arguments(*arguments), _environment())

    def _arguments(self, *arguments: str) -> list[str]:
        return [*arguments, "--config", str(self.config)]

    def _run(self, *arguments: str, **environ: str) -> None:
        self.run_module("gateway", self._arguments(*arguments), {**_environment(), **environ})

    def _told(self) -> tuple[str, str]:
        found = _READY.search(self.log)
        assert found, self.log
        return found[1], found[2] or ""


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}


@contextmanager
def haproxy(directory: Path, backend: str, mode: str = "http", name: str = "haproxy") -> Iterator[int]:
    """HAProxy before one server, ``backend`` being what stands behind ``server gateway``; its port."""
    port = free_port()
    config = directory / f"{name}.cfg"
    config.write_text(
        f"""
defaults
    mode {mode}
    timeout connect 3s
    timeout client 30s
    timeout server 30s
    timeout tunnel 30s
listen gateway
    bind 127.0.0.1:{port}
    server gateway {backend}
"""
    )
    process = Process(name, directory)
    process.spawn([program("haproxy", "haproxy"), "-db", "-f", str(config)])
    with process:
        wait_for(port, process)
        yield port


@contextmanager
def nginx(directory: Path, location: str, name: str = "nginx") -> Iterator[int]:
    """nginx with one location; its port."""
    port = free_port()
    own = directory / name
    own.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {own / kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = own / "nginx.conf"
    config.write_text(
        f"""
daemon off; pid {own / "pid"}; error_log {own / "error.log"}; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off; {temporary}
    proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host $http_host;
    server {{ listen 127.0.0.1:{port}; {location} }}
}}
"""
    )
    process = Process(name, directory)
    process.spawn([program("nginx", "nginx"), "-c", str(config), "-p", str(own)])
    with process:
        wait_for(port, process)
        yield port


def wait_for(port: int, process: Process) -> None:
    def open_() -> bool:
        assert process.alive, process.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until_blocking(open_, deadline=20, what=f"{process.name} listens")
