"""Runs cases of the Autobahn test suite and counts how they ended."""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.ports import free_port
from tests.waiting import until_blocking

HERE = Path(__file__).parent

ALL = ("*",)

SUBSET = (
    *(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)),
    *("9.1.1", "9.2.1", "9.3.1", "9.4.1", "9.5.6", "9.6.6"),
    *(f"12.{data}.1" for data in range(1, 6)),
    *(f"13.{offer}.1" for offer in range(1, 8)),
)
"""All rules of the framing, and a few of the cases that differ in size alone."""

PASSED = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
"""NON-STRICT is right as well: mostly that a connection fails before what came ahead of the fault is answered."""

_LARGEST = 64 * 1024 * 1024
"""Bytes of a message; the suite sends 16 MiB."""


class Result(Struct, rename="camel"):
    """How a case ended, in the suite's words."""

    behavior: str
    behavior_close: str

    @property
    def passed(self) -> bool:
        return self.behavior in PASSED and self.behavior_close in PASSED


def run(cases: Sequence[str], reports: Path, *, quiet: bool = False) -> dict[str, Result]:
    """Results by case. ``reports`` gets the suite's own, a page for each case."""
    with _echo() as port:
        server = {"agent": "gateway", "url": f"ws://127.0.0.1:{port}/echo"}
        spec = reports / "spec.json"
        spec.write_text(json.dumps({"outdir": str(reports), "servers": [server], "cases": list(cases)}))
        subprocess.run(
            [HERE / "wstest", "-m", "fuzzingclient", "-s", spec],
            env=os.environ | {"PYTHON": sys.executable},
            stdout=subprocess.DEVNULL if quiet else None,
            check=True,
        )
    written = reports / "index.json"  # at the end, and only then
    if not written.exists():
        raise RuntimeError("the suite was ended before its last case")
    index = json.loads(written.read_text())
    return {case: Result(each["behavior"], each["behaviorClose"]) for case, each in index["gateway"].items()}


@contextmanager
def _echo() -> Iterator[int]:
    """The echo in a process of its own; yields its port."""
    port = free_port()
    options = ("--port", str(port), "--ws-max-size", str(_LARGEST), "--log-level", "warning")
    protocol = "gateway.transports.uvicorn_websocket:CompressingWebSocketProtocol"
    command = (sys.executable, "-m", "uvicorn", "--ws", protocol, *options, "tests.autobahn.echo:app")
    server = subprocess.Popen(command)
    try:
        until_blocking(lambda: server.poll() is not None or _listens(port), what="the echo listens")
        yield port
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def summary(results: dict[str, Result]) -> str:
    """Counts, and what was not plainly OK."""
    lines = [f"{len(results)} cases"]
    for title, values in (
        ("behavior", [result.behavior for result in results.values()]),
        ("behaviorClose", [result.behavior_close for result in results.values()]),
    ):
        counts = ", ".join(f"{count} {value}" for value, count in Counter(values).most_common())
        lines.append(f"{title}: {counts}")
    for case, result in results.items():
        if (result.behavior, result.behavior_close) != ("OK", "OK"):
            mark = "" if result.passed else "  <- not passed"
            lines.append(f"  {case}: {result.behavior}, close {result.behavior_close}{mark}")
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; answers the exit status."""
    parser = argparse.ArgumentParser(prog="tests/autobahn/run", description=__doc__)
    parser.add_argument("cases", nargs="*", help="as 7.1.5 or 9.*; all if none are named")
    parser.add_argument("--subset", action="store_true", help="what CI runs")
    parser.add_argument("--reports", type=Path, help="where the suite's reports go; thrown away if not said")
    options = parser.parse_args()
    cases = options.cases or (SUBSET if options.subset else ALL)
    with tempfile.TemporaryDirectory(prefix="autobahn-") as temporary:
        reports = (options.reports or Path(temporary)).absolute()
        reports.mkdir(parents=True, exist_ok=True)
        results = run(cases, reports)
    print(summary(results))
    return 0 if results and all(result.passed for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
