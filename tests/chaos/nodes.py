"""The nodes under test, and what can be seen of them from outside."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos.http import Http
from tests.integration.servers import GatewayServer
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
START = 60.0
"""Seconds that a node has to come up, on a busy machine."""
PATIENCE = 30.0
"""Seconds for what the suite itself wants to know."""
DRAINED = 150.0
"""Seconds that a node has for its end: more than its clients are given to go elsewhere."""


class ChaosNode(GatewayServer):
    """A ``gateway serve`` process that knows when it was not itself to blame."""

    def __init__(
        self,
        name: str,
        directory: Path,
        settings: Mapping[str, Any],
        *,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        flags: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self._tasks = directory / f"{name}.tasks"
        given = {"PYTHONPATH": str(ROOT), "CHAOS_TASKS": str(self._tasks), **environment}
        super().__init__(name, directory, settings, flags, **given)
        if host != "127.0.0.1":
            config = json.loads(self._config.read_text())
            config["http_server"]["address"] = host
            self._config.write_text(json.dumps(config))
        self.host = host
        self._prefix = prefix
        self.http = Http(host, self.port)
        self.struck: list[tuple[float, float]] = []
        """From when to when it was killed or frozen, and answered nobody for that reason."""
        self._struck_at: float | None = None

    def start(self) -> None:
        module, arguments = "tests.chaos.node", ["serve", "--config", str(self._config), *self._flags]
        if self._prefix or "LD_PRELOAD" in self._environment:  # which a process that runs cannot be given
            self.spawn([*self._prefix, sys.executable, "-m", module, *arguments], self._environment)
        else:
            self.run_module(module, arguments, self._environment)

    # — what is done to it —

    def kill(self) -> None:
        self._strike()
        super().kill()

    def stop(self) -> None:
        self._strike()
        super().stop()

    def cont(self) -> None:
        super().cont()
        self._recover()

    async def come(self) -> None:
        """Start it again, and wait until it wants connections."""
        self.start()
        await self.started()
        self._recover()

    async def started(self) -> None:
        """Wait until it wants connections. Raises ``AssertionError`` with its log if it ends instead."""

        async def up() -> bool:
            if not self.alive:
                raise AssertionError(f"{self.name} ended while it started:\n{self.log[-2000:]}")
            return await self.ready()

        await until(up, START, f"{self.name} is ready")

    async def drain(self) -> None:
        """Have it end in good order, however long its clients take."""
        self._strike()
        self.signal(signal.SIGTERM)
        await until(lambda: not self.alive, DRAINED, f"{self.name} has drained")
        self._reap()

    def _strike(self) -> None:
        self._struck_at = time.monotonic()

    def _recover(self) -> None:
        if self._struck_at is not None:
            self.struck.append((self._struck_at, time.monotonic()))
            self._struck_at = None

    def excused(self, begin: float, end: float) -> bool:
        """Whether it was killed or frozen at any time between."""
        now = self._struck_at is not None and self._struck_at < end
        return now or any(first < end and begin < last for first, last in self.struck)

    # — what is seen of it —

    async def ready(self) -> bool:
        """Whether it wants connections, and hears its broker."""
        with suppress(OSError, TimeoutError, ValueError):
            status, body = await self.http.get("/health/ready", 2.0)
            broker = body["broker"] if isinstance(body, dict) else {}
            return status == 200 and broker.get("connected", False) and not broker.get("deaf", True)
        return False

    async def metrics(self) -> dict[str, float]:
        """By name and labels, added up where it has several processes."""
        _, text = await self.http.get("/metrics", PATIENCE)
        total: defaultdict[str, float] = defaultdict(float)
        for name, labels, value in re.findall(r"^gateway_(\w+)\{(.*)\} (\S+)$", str(text), re.MULTILINE):
            others = re.sub(r',?node="\w+"', "", labels).removeprefix(",")
            total[name + (f"{{{others}}}" if others else "")] += float(value)
        return total

    def pids(self) -> list[int]:
        """Its process, or those of its workers."""
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return [int(each) for each in children] or [self.pid]
        return [self.pid]

    def memory(self) -> int:
        """Resident bytes."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE for pid in self.pids())

    def starved(self) -> dict[int, float]:
        """By process, seconds for which it could have run, and the machine had no processor for it."""
        delays = {pid: Path(f"/proc/{pid}/schedstat").read_text().split()[1] for pid in self.pids()}
        return {pid: int(delay) / 1e9 for pid, delay in delays.items()}

    def descriptors(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    async def tasks(self) -> dict[str, int]:
        """Its tasks, by name, how many of each. Of a node with workers nothing is told."""
        self._tasks.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        await until(self._tasks.exists, 10.0, f"{self.name} tells of its tasks")
        lines = [line.split(" ", 1) for line in self._tasks.read_text().splitlines()]
        return {name: int(count) for count, name in lines}

    async def close(self) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
                with suppress(AssertionError):
                    await until(self._heard, PATIENCE)  # of two at once it may hear one
                self.signal(signal.SIGTERM)  # nobody is to be waited for
            await asyncio.to_thread(self._end)
        await self.http.close()

    async def _heard(self) -> bool:
        return not self.alive or not await self.ready()

    def _end(self) -> None:
        assert self._popen is not None
        with suppress(Exception):
            self._popen.wait(10)
        if self.alive:
            self._popen.kill()
        self._reap()
