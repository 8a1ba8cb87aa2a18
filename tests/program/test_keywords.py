"""Keywords that a call does not take, at run time and for type checkers."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway, Settings
from gateway.program.keywords import Sections, check_keywords

ROOT = Path(__file__).parents[2]

PROGRAM = """
from fastapi import FastAPI, WebSocket
from gateway import ConnectionManager, Gateway

gateway = Gateway(client={"insecure": False}, same_origin=False)
Gateway(clinet={})  # wrong
manager = ConnectionManager(FastAPI())
gateway.channel("a", history_size=5, history_ttl="10s", publish="anyone", read="subscribers", message=int)
gateway.channel("b", histroy_size=5)  # wrong
gateway.channel("c", presence="yes")  # wrong
gateway.channel("d", publish="everyone")  # wrong


@gateway.rpc
async def rooms() -> list[str]:
    return []


@gateway.rpc("other")
async def named(name: str) -> int:
    return len(await rooms())


async def serve(websocket: WebSocket) -> None:
    await named(1)  # wrong
    await manager.connect(websocket, user="ann")
    await manager.connect(websocket, usr="ann")  # wrong
    async with gateway.attach(websocket, token="t", format="json"):
        pass
    async with gateway.attach(websocket, tokne="t"):  # wrong
        pass
"""


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["user", "usr"], "call() got an unexpected keyword argument 'usr'; did you mean 'user'? it takes user, token"),
        (["xyz"], "call() got an unexpected keyword argument 'xyz'; it takes user, token"),
    ],
)
def test_what_is_not_taken_is_refused(given: list[str], problem: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(problem)}$"):
        check_keywords("call()", given, ["user", "token"])


def test_sections_are_those_of_the_settings() -> None:
    assert list(Sections.__annotations__) == list(Settings.model_fields)
    sections: Any = {"chanel": {"max_length": 5}}
    with pytest.raises(TypeError, match=r"Gateway\(\) got .* 'chanel'; did you mean 'channel'\? it takes settings, "):
        Gateway(**sections)


def test_what_is_taken_is_not() -> None:
    check_keywords("call()", ["token"], ["user", "token"])
    check_keywords("call()", [], [])


def test_type_checkers_refuse_it_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "program.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout + done.stderr
