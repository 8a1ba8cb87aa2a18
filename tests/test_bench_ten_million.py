import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ten_million
from bench.servers import Failed
from bench.ten_million import Measuring, about, markdown, parse

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("redis", [(), ("--shards", "2"), ("--cluster", "3")])
def test_smoke_writes_the_tables(tmp_path: Path, redis: tuple[str, ...]) -> None:
    path = tmp_path / "table.md"
    command = [str(ROOT / "bench" / "ten_million"), "--smoke", *redis, "--output", str(path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert text.startswith("Measured by `bench/ten_million` on ")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    heads = [rows[index - 1] for index, row in enumerate(rows) if set("".join(row)) <= set("-:")]
    assert [head[0] for head in heads] == [ten_million.READY, ten_million.MEMORY, "notifications/s"]
    rate, deliveries, *_ = rows[-1]
    assert rate == "100"
    assert float(deliveries) > 150  # and those of an announcement


def test_the_usual_run_is_a_nodes_share() -> None:
    options, output = parse([])
    assert (options.users, *options.rates) == (15_000, 150.0, 1_500.0, 5_000.0)
    assert output is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "0"],
        ["--seconds", "0"],
        ["--rates", "0"],
        ["--shards", "0"],
        ["--cluster", "2"],
        ["--cluster", "3", "--shards", "2"],
        ["unknown"],
    ],
)
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert "error" in capsys.readouterr().err


def test_the_table_says_how_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ten_million, "machine", lambda: "a machine")
    options, _ = parse(["--users", "3000", "--seconds", "4"])
    measuring = Measuring(options)
    measuring.storms, measuring.rest, measuring.shares = [{"a": 1.0}, {"a": 2.0}], {"b": 3.25}, {150.0: {"c": 4.0}}
    text = markdown(measuring, about(options))
    assert "a machine. The node on one core, 3,000 clients and Redis on another; 4 s for each row." in text
    assert "| a |\n| ---: |\n| 1 |\n| 2 |" in text
    assert "| notifications/s | c |\n| ---: | ---: |\n| 150 | 4 |" in text


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Measuring) -> None:
        raise Failed("it broke")

    monkeypatch.setattr(Measuring, "run", fail)
    monkeypatch.setattr(sys, "argv", ["bench/ten_million", "--users", "1"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert ten_million.main() == 1
    assert "it broke" in capsys.readouterr().err
