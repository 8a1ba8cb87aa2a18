"""The Autobahn test suite, as far as it can be run every time; the whole of it: tests/autobahn/run."""

from pathlib import Path

import pytest

from tests.autobahn.suite import SUBSET, Result, run, summary


def test_the_suite_passes(tmp_path: Path) -> None:
    results = run(SUBSET, tmp_path, quiet=True)
    assert all(result.passed for result in results.values()), summary(results)
    groups = {case.split(".")[0] for case in results}
    assert groups == {case.split(".")[0] for case in SUBSET}, "all of them have run"
    assert len(results) > 250


@pytest.mark.parametrize(
    ("behavior", "close", "passed"),
    [
        ("OK", "OK", True),
        ("NON-STRICT", "OK", True),
        ("INFORMATIONAL", "INFORMATIONAL", True),
        ("FAILED", "OK", False),
        ("OK", "FAILED", False),
        ("OK", "WRONG CODE", False),
        ("OK", "UNCLEAN", False),
        ("UNIMPLEMENTED", "OK", False),
    ],
)
def test_what_passes(behavior: str, close: str, passed: bool) -> None:
    result = Result(behavior, close)
    assert result.passed == passed
    assert ("7.1.1: " in summary({"7.1.1": result})) == ((behavior, close) != ("OK", "OK"))
