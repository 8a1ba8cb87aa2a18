"""Examples as a user runs them: uvicorn processes on one Redis."""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from tests.integration.servers import START, TROUBLE, Server
from tests.redis_server import RedisServer
from tests.waiting import until_blocking

ROOT = Path(__file__).parents[2]


class Instance(Server):
    """One ``uvicorn examples.<example>:app``."""

    def __init__(self, example: str, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, directory)
        self._example = example
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self._environment = {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        self.run_module("uvicorn", [f"examples.{self._example}:app", "--port", str(self.port)], self._environment)

    def wait_until_open(self) -> None:
        def answers() -> bool:
            assert self.alive, f"{self.name} ended while it started:\n{self.log}"
            with socket.socket() as client:  # which uvicorn takes once the application has started
                return client.connect_ex((self.host, self.port)) == 0

        until_blocking(answers, START, f"{self.name} answers")

    def check_log(self) -> None:
        bad = [word for word in TROUBLE if word in self.log]
        assert not bad, f"{self.name} logged {bad}:\n{self.log}"


class Cluster:
    """Starts instances: ``urls = cluster("chat", instances=2, env={...})``. Whatever runs at the end is ended."""

    def __init__(self, redis: RedisServer, directory: Path) -> None:
        self._redis = redis
        self._directory = directory
        self._prefix = uuid4().hex
        self._stack = ExitStack()
        self._instances: list[Instance] = []

    def __call__(self, example: str, instances: int = 2, env: Mapping[str, str] | None = None) -> list[str]:
        """Start them, wait until they answer, and return their base URLs."""
        shared = {"GATEWAY_REDIS_URL": self._redis.url, "GATEWAY_ENGINE__REDIS__PREFIX": self._prefix, **(env or {})}
        started = []
        for _ in range(instances):
            name = f"{example}-{len(self._instances)}"
            instance = Instance(example, name, self._directory, {**shared, "GATEWAY_NODE__NAME": name})
            self._instances.append(instance)
            started.append(instance)
            instance.start()
            self._stack.push(instance)
        for instance in started:
            instance.wait_until_open()
        return [instance.url for instance in started]

    def instance(self, url: str) -> Instance:
        """The process behind a base URL, to kill it, freeze it or read its log."""
        [found] = [instance for instance in self._instances if instance.url == url]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for instance in self._instances:
            instance.check_log()


def websocket(url: str, path: str) -> str:
    """The address of a WebSocket at a base URL."""
    return url.replace("http", "ws", 1) + path
