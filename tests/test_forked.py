"""A forked program is as one that was started."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.forked import Forked, run
from tests.waiting import until_blocking

PROGRAM = """
import json, os, sys, time
print(json.dumps([__name__, sys.argv[1:], os.getcwd(), sys.path[:2], dict(os.environ)]))
if sys.argv[1] == "wait":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _program(tmp_path: Path) -> None:
    (tmp_path / "program_of_forked.py").write_text(PROGRAM)


def forked(directory: Path, *arguments: str) -> Forked:
    environment = {"PYTHONPATH": "/elsewhere", "WORD": "x"}
    return Forked("program_of_forked", arguments, directory, environment, directory / "output")


def test_it_has_its_arguments_place_and_environment_alone(tmp_path: Path) -> None:
    assert forked(tmp_path, "3", "more").wait() == 3
    name, arguments, directory, path, environment = json.loads((tmp_path / "output").read_text())
    assert (name, arguments, directory) == ("__main__", ["3", "more"], str(tmp_path))
    assert path == [str(tmp_path), "/elsewhere"]
    assert environment == {"PYTHONPATH": "/elsewhere", "WORD": "x"}


def test_it_is_waited_for_and_takes_signals(tmp_path: Path) -> None:
    program = forked(tmp_path, "wait")
    until_blocking(lambda: (tmp_path / "output").exists() and (tmp_path / "output").read_text())
    assert program.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0)
    program.send_signal(signal.SIGKILL)
    assert program.wait() == program.poll() == -signal.SIGKILL
    program.send_signal(signal.SIGTERM)  # which goes to nobody


def test_what_it_raises_is_in_its_output(tmp_path: Path) -> None:
    assert forked(tmp_path, "nonsense").wait() == 1
    assert "ValueError: invalid literal" in (tmp_path / "output").read_text()


def test_what_it_says_and_its_errors_are_told_apart(tmp_path: Path) -> None:
    done = run("program_of_forked", ["nonsense"], {}, tmp_path)
    assert (done.returncode, done.stdout[:3], done.stderr[:9]) == (1, '["_', "Traceback")
    assert done.stderr.count("ValueError: invalid literal") == 1


def test_it_begins_where_the_imports_end(tmp_path: Path) -> None:
    (tmp_path / "program_of_forked.py").write_text("import sys; print('gateway.program.gateway' in sys.modules)")
    assert forked(tmp_path).wait() == 0
    assert (tmp_path / "output").read_text() == "True\n"
