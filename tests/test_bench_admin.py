"""The load of an operator who asks again and again says what that costs."""

from bench.admin import QUESTIONS, Cost, page
from tests.forked import run


def test_tells_of_each_question() -> None:
    costs = [Cost("nothing", 0, [], 0.0, [9, 0, 0]), Cost("all", 3, [0.001, 0.003, 0.005], 0.012, [7, 1, 1])]
    rows = page(costs, [0.001, 0.01], "about").splitlines()[-2:]
    assert rows == ["| nothing |  |  |  |  | 1 |", "| all | 3 | 3.0 | 5.0 | 4.0 | inf |"]


def test_a_small_one_asks_everything() -> None:
    done = run("bench.admin", ["--connections", "64", "--seconds", "0.2"])
    assert not done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows if not row[0].startswith("---")] == ["nothing is asked", *QUESTIONS]
