"""The generated client: it compiles, what it forbids does not, and it runs against a real gateway."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Body

from gateway import Gateway, Settings
from gateway.contracts.reading import contract_of
from gateway.contracts.typescript import typescript
from tests.contracts.program import app, gateway
from tests.integration.processes import program
from tests.node import PACKAGES
from tests.serving import on_plain_uvicorn

HERE = Path(__file__).parent
OPTIONS = ["--strict", "--noUnusedLocals", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]
OPTIONS += ["--skipLibCheck"]  # what others declare is not judged here: two thirds of the time


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the generated client and what uses it, as a front end has it."""
    directory = tmp_path_factory.mktemp("client")
    (directory / "package.json").write_text('{"type": "module"}')
    (directory / "node_modules").symlink_to(PACKAGES / "node_modules")
    (directory / "client.ts").write_text(typescript(contract_of(gateway._program, gateway.settings)))
    for name in ("use.ts", "wrong.ts", "run.mjs"):
        (directory / name).write_text((HERE / name).read_text())
    yield directory
    (directory / "node_modules").unlink()


def compiled(project: Path, *files: str) -> str:
    """What the compiler has to say."""
    command = [program("node", "nodejs"), "node_modules/typescript/bin/tsc", *OPTIONS, *files]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout


async def test_it_compiles_and_runs(project: Path) -> None:
    assert compiled(project, "use.ts", "wrong.ts") == ""
    async with on_plain_uvicorn(app, gateway.settings) as port:
        address = f"ws://127.0.0.1:{port}/live/connection/websocket?user=42"
        node = await asyncio.create_subprocess_exec(
            *(program("node", "nodejs"), "run.mjs", address), cwd=project, stdout=-1, stderr=-1
        )
        output, errors = await node.communicate()
    assert node.returncode == 0, errors.decode()
    found: dict[str, Any] = json.loads(output)
    assert found == {
        "told": ["SO", "3", "null"],
        "text": "HI",
        "type": "text/markdown",
        "color": "red",
        "sizes": [3],
        "same": True,
        "present": [{"user": "42", "chanInfo": {"nickname": "ann"}}],
        "numUsers": 1,
        "past": ["hi"],
        "rooms": ["den", "lobby"],
        "echo": "so",
        "nothing": None,
        "refused": 409,
        "astray": '"a:b" cannot stand in the name of a channel',
        "channel": "chat:den:typing",
    }


def test_optional_data_of_a_subscription_may_be_left_out_but_not_be_wrong(project: Path) -> None:
    program = Gateway(Settings())
    route = program.channel("a")

    @route.on_subscribe
    async def join(level: Annotated[int, Body()] = 0) -> None: ...

    (project / "partial.ts").write_text(typescript(contract_of(program._program, program.settings)))
    (project / "joins.ts").write_text(
        'import type { Centrifuge } from "centrifuge";\nimport { a } from "./partial.js";\n'
        "export const all = (client: Centrifuge) => [a(client), a(client, {}), a(client, { data: 1, token: '' })];\n"
        "// @ts-expect-error  no number\n"
        "export const no = (client: Centrifuge) => a(client, { data: '1' });\n"
    )
    assert compiled(project, "--noEmit", "joins.ts") == ""


def test_the_compiler_is_a_judge(project: Path) -> None:
    (project / "broken.ts").write_text('import { rooms } from "./client.js";\nrooms(1);\n')
    assert "TS2345" in compiled(project, "--noEmit", "broken.ts")
