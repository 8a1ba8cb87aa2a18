"""Node programs that serve all tests of this process: each starts once, and every test has a connection of its own."""

import asyncio
import atexit
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.integration.clients.driven import wrapped
from tests.integration.processes import GRACE, program

PACKAGES = Path(__file__).parent / "integration" / "sdk"
"""Where ``node_modules`` is."""
LINE_LIMIT = 1 << 24
"""Longest line that a program may say, in bytes."""
STARTS = 2
"""How often one may be started: what ends once is an accident that fails one test."""


class NodeProgram:
    """A program that serves with ``node.mjs``. It starts with its first connection."""

    def __init__(self, script: Path, *arguments: str) -> None:
        self._script = script
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._starts = 0

    async def connect(self) -> "Connection":
        if self._process is None or self._process.poll() is not None:
            self._start()
        return Connection(self, *await asyncio.open_connection("127.0.0.1", self._port, limit=LINE_LIMIT))

    @property
    def obituary(self) -> str:
        """What a test says that loses its connection."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        self._errors.seek(0)
        return f"{self._script.name} has ended: {self._errors.read().decode(errors='replace') or 'without a word'}"

    def _start(self) -> None:
        if not (PACKAGES / "node_modules").is_dir():
            raise RuntimeError(f"the tests need Node packages: npm ci in {PACKAGES.name}, or bash tests/run")
        if self._starts == STARTS:
            raise AssertionError(f"{self.obituary}\nIt has done so {STARTS} times and is not started again.")
        self.end()
        self._starts += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the program may speak
        command = [program("node", "nodejs"), str(self._script), *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        atexit.register(self.end)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.obituary
        self._port = int(line)

    def end(self) -> None:
        """Let it end. Nobody has to call this before the end of the tests."""
        if self._process is None:
            return
        atexit.unregister(self.end)
        try:
            self._process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()
        self._process = None


class Connection:
    """What one test has of a program, which clears away what was left open once the connection is closed."""

    def __init__(self, program: NodeProgram, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._program = program
        self._reader = reader
        self._writer = writer

    @property
    def obituary(self) -> str:
        return self._program.obituary

    def tell(self, message: dict[str, Any]) -> None:
        assert not self._reader.at_eof(), self.obituary
        self._writer.write(json.dumps(message, default=wrapped).encode() + b"\n")

    async def lines(self) -> AsyncIterator[bytes]:
        """What the program says, until it has nothing more to say."""
        with suppress(ConnectionError):
            async for line in self._reader:
                yield line

    async def close(self, reading: "asyncio.Task[None]") -> None:
        """Say that this was all, and wait until everything is cleared away, and read to the end."""
        self._writer.write_eof()
        await reading
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
