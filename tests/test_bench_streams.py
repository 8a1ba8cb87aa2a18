"""The load that says what a delivery costs over each transport."""

import subprocess
import sys
from pathlib import Path

from bench.streams import WAYS, page

ROOT = Path(__file__).parent.parent


def test_tells_ratios() -> None:
    text = page({"websocket": {1: [4.0, 2.0, 3.0], 16: [1.0]}, "sse": {1: [6.0], 16: [1.5]}}, "about")
    assert text.splitlines()[-2:] == [
        "| websocket | 3.00 | 1.00 | 1.00 | 1.00 |",
        "| sse | 6.00 | 1.50 | 2.00 | 1.50 |",
    ]


def test_a_small_one_measures_all() -> None:
    command = [sys.executable, "-m", "bench.streams", "--subscribers", "5", "--messages", "20", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == [way.name for way in WAYS]
