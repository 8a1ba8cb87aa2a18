"""The tables of SDKs say what a run has shown, and no other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration import table
from tests.integration.clients.every import EVERY
from tests.integration.table import BEGIN, END, FEATURES, NAME, Shown, Table, long_form, short_form, shown_by

ALL = {shown_by(feature, kind) for kind in EVERY for feature in FEATURES if feature not in kind.lacks}
ONE = Shown("history", "centrifuge-go", "websocket", "JSON")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that claims all."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\n{long_form(ALL)}\n\n{END}after\n")
    monkeypatch.setattr(table, "PAGES", {path: long_form})
    return path


def run(shown: set[Shown], *args: str, status: int = 0, write: bool = False, **options: Any) -> int:
    """What a run that shows this ends with."""
    collected = Table(write)
    for each in shown:
        properties = [(NAME, list(each)), ("another", "of somebody else")]
        report: Any = SimpleNamespace(when="call", passed=True, user_properties=properties)
        collected.pytest_runtest_logreport(report)
    report = SimpleNamespace(when="call", passed=False, user_properties=[(NAME, list(ONE))])
    collected.pytest_runtest_logreport(report)
    config = SimpleNamespace(args=args, getoption=lambda name, default: options.get(name, default))
    session: Any = SimpleNamespace(config=config, exitstatus=status)
    collected.pytest_sessionfinish(session, status)
    return int(session.exitstatus)


def test_a_true_table(page: Path) -> None:
    assert run(ALL, "tests") == 0


def test_a_claim_that_no_passed_test_has_shown(page: Path) -> None:
    assert run(ALL - {ONE}, "tests") == 1


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["tests/integration/test_features.py::test_history"], {}),
        (["tests"], {"keyword": "history"}),
        (["tests"], {"deselect": ["x"]}),
    ],
)
def test_a_run_of_some_says_nothing(page: Path, args: list[str], options: dict[str, Any]) -> None:
    assert run(ALL - {ONE}, *args, **options) == 0
    assert run(set(), "tests/core") == 0


def test_a_run_that_has_failed_writes_nothing(page: Path) -> None:
    before = page.read_text()
    assert run(ALL - {ONE}, "tests", status=1, write=True) == 1
    assert page.read_text() == before


def test_what_is_written_is_true_from_then_on(page: Path) -> None:
    run(ALL - {ONE}, "tests", write=True)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert run(ALL - {ONE}, "tests") == 0
    assert run(ALL, "tests") == 1


def test_cells() -> None:
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in long_form(ALL - {ONE}).splitlines()}
    assert rows["| history"][-4:] == ["Protobuf", "not run", "not run", "not run |"]
    assert rows["| maps"][-5:] == ["–", "–", "–", "–", "– |"]
    assert "| all that it has; history: Protobuf; no maps; no shared polls |" in short_form(ALL - {ONE})
