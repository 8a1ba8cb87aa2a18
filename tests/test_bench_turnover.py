"""The load of connections that come and go says what a node keeps of them."""

import pytest

from bench.turnover import Look, held, page, parse
from tests.forked import run


def look(turnovers: int, memory: int, *, sessions: int = 64) -> Look:
    return Look(turnovers, memory << 20, sessions, open=64)


def test_holds_where_nothing_stays() -> None:
    begin = look(0, 100)
    assert held([begin, look(10, 110), look(20, 103)])
    assert not held([begin, look(20, 104)])
    assert not held([begin, look(20, 100, sessions=65)])


def test_tells_of_each_look() -> None:
    text = page([look(0, 100), look(1500, 102, sessions=70)], "about")
    assert text.splitlines()[-1] == "| 1,500 | 102.0 | 64 | 6 |"


def test_replaces_no_more_than_there_are() -> None:
    with pytest.raises(SystemExit):
        parse(["--alive", "8"])


def test_a_small_one_leaves_nobody() -> None:
    done = run("bench.turnover", ["--alive", "64", "--turnovers", "640"])
    assert not done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["0", *(str(64 * part) for part in range(1, 11))]
    assert {(row[2], row[3]) for row in rows} == {("64", "0")}
