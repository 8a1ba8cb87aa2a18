"""deploy/roll, with stand-ins for docker and docker-compose which keep what they are told in a file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.balancers import ROOT

DOCKER = """
import json, os, pathlib, sys
path = pathlib.Path(os.environ["STATE"])
state = json.loads(path.read_text())
words, told = sys.argv[1:], ""
if words[0] == "compose":
    words = words[1:]
name = words[0]
if name == "ps":
    told = "\\n".join([*state["up"], *state["down"]])
elif name == "inspect":
    told = str(words[-1] in state["up"]).lower()
elif name == "up":
    count = int(words[words.index("--scale") + 1].partition("=")[2])
    while len(state["up"]) < count and state["start"]:
        state["made"] += 1
        state["up"].append(f"new{state['made']}")
        state["done"].append(f"start new{state['made']}")
    if not state["start"]:
        state["down"].append("unstarted")
elif name == "exec":
    state["done"].append(f"ask {words[1]}")
elif name == "stop" or words[:2] == ["rm", "--force"] and words[2] in state["up"]:
    state["up"].remove(words[-1])
    state["down"].append(words[-1])
    state["done"].append(f"{name} {words[-1]}")
elif words == ["rm", "--force", "gateway"]:
    state["down"] = []
elif name == "rm":
    state["down"].remove(words[-1])
path.write_text(json.dumps(state))
print(told)
sys.exit(name == "exec" and not state["ready"])
"""


class Machine:
    def __init__(self, directory: Path, compose: str, **traits: Any) -> None:
        self._state = directory / "state.json"
        self._bin = directory / "bin"
        self._bin.mkdir()
        given = {"up": ["old1", "old2"], "down": ["stale"], "made": 0, "done": [], "ready": True, "start": True}
        self._state.write_text(json.dumps({**given, **traits}))
        (self._bin / "docker.py").write_text(DOCKER)
        for name in {"docker", compose}:
            (self._bin / name).write_text(f'#!/bin/sh\nexec {sys.executable} {self._bin}/docker.py "$@"\n')
            (self._bin / name).chmod(0o755)

    def roll(self, *words: str) -> subprocess.CompletedProcess[str]:
        for name in ("bash", "dirname", "grep", "wc", "sleep"):  # and nothing else, such as a real docker-compose
            (self._bin / name).symlink_to(
                next(p for d in os.defpath.split(":") if d and (p := Path(d) / name).exists())
            )
        environ = {"PATH": str(self._bin), "STATE": str(self._state), "FOUND": "0", "READY_TIMEOUT": "0"}
        command = [str(self._bin / "bash"), str(ROOT / "deploy/roll"), *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._state.read_text())
        return found


@pytest.mark.parametrize("compose", ["docker-compose", "docker"])
def test_a_successor_is_ready_before_the_old_one_drains(tmp_path: Path, compose: str) -> None:
    machine = Machine(tmp_path, compose)
    result = machine.roll()
    assert result.returncode == 0, result.stderr
    one, two = (["start new1", "ask new1", "stop old1"], ["start new2", "ask new2", "stop old2"])
    assert machine.state["done"] == [*one, *two]
    assert machine.state["up"] == ["new1", "new2"]
    assert machine.state["down"] == [], "what had stopped before is not started again"
    assert result.stdout.splitlines()[-1] == "roll: 2 replaced"


def test_in_place_the_old_one_ends_first(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker-compose")
    assert machine.roll("--in-place").returncode == 0
    one, two = (["stop old1", "start new1", "ask new1"], ["stop old2", "start new2", "ask new2"])
    assert machine.state["done"] == [*one, *two]


def test_one_that_is_not_ready_is_removed_and_the_others_go_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker-compose", ready=False)
    result = machine.roll()
    assert result.returncode == 1
    assert "new1 was not ready within 0 s and is removed" in result.stderr
    assert machine.state["up"] == ["old1", "old2"]


def test_nothing_stays_of_one_that_cannot_start(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker-compose", start=False)
    result = machine.roll()
    assert result.returncode == 1
    assert "no successor has started; the others go on" in result.stderr
    assert machine.state["up"] == ["old1", "old2"]
    assert machine.state["down"] == []


@pytest.mark.parametrize(
    ("words", "traits", "text"),
    [
        (["--now"], {}, "there is no --now"),
        ([], {"up": []}, "no gateway runs"),
        (["--in-place"], {"up": ["old1"]}, "a single gateway cannot be replaced in place"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    tmp_path: Path, words: list[str], traits: dict[str, Any], text: str
) -> None:
    machine = Machine(tmp_path, "docker-compose", **traits)
    result = machine.roll(*words)
    assert result.returncode == 1
    assert text in result.stderr
    assert not machine.state["done"]
