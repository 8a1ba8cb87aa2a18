"""Which SDK does what, as a run of the tests has shown: the tables of docs/protocol.md and README.md.

    python -m pytest tests/integration/test_features.py --write-table

Each test of `test_features` reports what it shows, which is in the tables if it has passed. A run of all of them fails
if a table says something else.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.clients.base import SDK
from tests.integration.clients.every import EVERY

ROOT = Path(__file__).parents[2]
NAME = "table of SDKs"
FEATURES = (
    "connect",
    "subscribe",
    "publish",
    "presence",
    "history",
    "RPC",
    "tokens and refresh",
    "recovery",
    "delta",
    "tag filter",
    "server-side subscriptions",
    "maps",
    "shared polls",
    "compaction",
    "getState",
)
TRANSPORTS = {"websocket": "WebSocket", "http_stream": "HTTP stream", "sse": "SSE"}
BY_BYTES = ("Java", "Swift", "Dart")
"""SDKs whose first frames are sent by the tests, as their sources say."""
ENCODINGS = ("JSON", "Protobuf")


class Shown(NamedTuple):
    """What a passed test has shown."""

    feature: str
    library: str
    transport: str
    encoding: str


class Column(NamedTuple):
    """An SDK over one of its transports."""

    library: str
    transport: str


def shown_by(feature: str, kind: type[SDK]) -> Shown:
    transport = kind.transports[0] if kind.transports else "websocket"
    return Shown(feature, kind.library, transport, ENCODINGS[kind.protobuf])


def _columns() -> dict[Column, list[str]]:
    """Each with the encodings that the SDK has there."""
    found: dict[Column, list[str]] = defaultdict(list)
    for kind in EVERY:
        _, library, transport, encoding = shown_by("", kind)
        found[Column(library, transport)].append(encoding)
    return found


LACKS = {kind.library: kind.lacks for kind in EVERY} | dict.fromkeys(BY_BYTES, SDK.lacks)


def _cell(feature: str, column: Column, encodings: list[str], shown: set[Shown]) -> str:
    found = [each for each in encodings if Shown(feature, *column, each) in shown]
    if not found:
        return "–" if feature in LACKS[column.library] else "not run"
    if column.library in BY_BYTES:
        return "bytes"
    return "✓" if found == encodings else ", ".join(found)


def long_form(shown: set[Shown]) -> str:
    """A row for each feature."""
    columns = _columns() | {Column(each, "websocket"): ["Protobuf"] for each in BY_BYTES}
    titles = [
        f"{each.library}<br>{TRANSPORTS[each.transport]}<br>{', '.join(encodings)}"
        for each, encodings in columns.items()
    ]
    rows = [[feature, *(_cell(feature, *each, shown) for each in columns.items())] for feature in FEATURES]
    return _markdown([["", *titles], ["---"] * (len(titles) + 1), *rows])


def short_form(shown: set[Shown]) -> str:
    """A row for each SDK."""
    rows = []
    for library, columns in _by_library(_columns()).items():
        ways = "; ".join(
            f"{TRANSPORTS[column.transport]} in {' and '.join(encodings)}" for column, encodings in columns
        )
        rows.append([library, ways, "; ".join(["all that it has", *_exceptions(columns, shown)])])
    for library in BY_BYTES:
        moves = [each for each in FEATURES if Shown(each, library, "websocket", "Protobuf") in shown]
        rows.append([library, "WebSocket in Protobuf", f"only its first frames are sent: {', '.join(moves) or 'none'}"])
    return _markdown([["SDK", "over", "what the tests have it do"], ["---"] * 3, *rows])


def _exceptions(columns: list[tuple[Column, list[str]]], shown: set[Shown]) -> Iterator[str]:
    """What is not done, or not everywhere."""
    for feature in FEATURES:
        cells = {_cell(feature, *each, shown) for each in columns}
        if cells == {"–"}:
            yield f"no {feature}"
        elif cells != {"✓"}:
            yield f"{feature}: {', '.join(sorted(cells - {'✓'}))}"


def _by_library(columns: Mapping[Column, list[str]]) -> dict[str, list[tuple[Column, list[str]]]]:
    found: dict[str, list[tuple[Column, list[str]]]] = defaultdict(list)
    for each in columns.items():
        found[each[0].library].append(each)
    return found


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


PAGES = {ROOT / "docs/protocol.md": long_form, ROOT / "README.md": short_form}
BEGIN, END = "<!-- made by pytest tests/integration/test_features.py --write-table -->\n", "<!-- end -->\n"


def pages(shown: set[Shown]) -> Iterator[tuple[Path, str, str]]:
    """Each page as it is and as it should be."""
    for path, form in PAGES.items():
        text = path.read_text()
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        assert begin, f"{path.name} has no place for the table"
        assert end, f"the table in {path.name} has no end"
        yield path, text, f"{before}{BEGIN}\n{form(shown)}\n\n{END}{after}"


class Table:
    """Collects what a run shows. In a run side by side the reports of all processes come to the first."""

    def __init__(self, write: bool) -> None:
        self.shown: set[Shown] = set()
        self._write = write
        self._verdict = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.shown.update(Shown(*given) for name, given in report.user_properties if name == NAME)  # type: ignore[misc]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus or not self.shown or _partial(session.config):
            return
        for path, text, true in pages(self.shown):
            if self._write:
                path.write_text(true)
            elif text != true:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
                self._verdict += f"{path.name} has a table of SDKs that is not what this run has shown: --write-table\n"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._verdict:
            terminalreporter.write(self._verdict, red=True)


def _partial(config: pytest.Config) -> bool:
    """Whether tests have been picked, in a run side by side, too, or this is a process that only reports to another."""
    picked = any(config.getoption(each, None) for each in ("keyword", "markexpr", "lf", "deselect"))
    return picked or any("::" in each for each in config.args) or hasattr(config, "workerinput")
