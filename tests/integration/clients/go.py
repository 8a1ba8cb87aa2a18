"""Go's ``centrifuge-go``: many clients in one program, made of ``sdk/go`` and driven over its standard input."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Any

from tests.integration.clients.driven import DrivenSDK, Line, wrapped
from tests.node import LINE_LIMIT, PACKAGES

DRIVER = PACKAGES / "go/bin/driver"


class GoSDK(DrivenSDK):
    name = "go"
    library = "centrifuge-go"

    async def line(self) -> Line:
        if not DRIVER.exists():
            raise RuntimeError("the tests need a program in Go: bash tests/run --prepare builds it")
        return _Line(await asyncio.create_subprocess_exec(str(DRIVER), stdin=PIPE, stdout=PIPE, limit=LINE_LIMIT))


class GoProtobufSDK(GoSDK):
    name = "go-protobuf"
    protobuf = True


class _Line:
    """To a process that is this test's alone."""

    obituary = "the driver has ended"

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._writer, self._reader = process, process.stdin, process.stdout

    def tell(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message, default=wrapped).encode() + b"\n")

    async def lines(self) -> AsyncIterator[bytes]:
        async for line in self._reader:
            yield line

    async def close(self, reading: "asyncio.Task[None]") -> None:
        self._writer.close()
        await self._process.wait()
        await reading
