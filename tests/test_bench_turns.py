"""What is measured in turns: storms of connects, and another checkout of the gateway beside this one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import measures
from bench.__main__ import Bench, Options, parse
from bench.measures import COST, STORM, Run, Values, clients, storm
from bench.redises import Layout, Redises
from bench.report import table
from bench.results import Result, Sample, medians
from bench.servers import Failed
from bench.systems import BY_NAME, CONFIG, System
from bench.works import BY_NAME as WORKS
from bench.works import Work

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _stay_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_setaffinity", lambda _process, _cores: None)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Of this very gateway."""
    there = tmp_path / "theirs"
    for path in ("gateway", CONFIG.relative_to(ROOT)):
        (there / path).parent.mkdir(exist_ok=True)
        (there / path).symlink_to(ROOT / path)
    return there


def bench(work: Work, systems: Sequence[str], against: Path | None = None, share: float = 5 / STORM) -> Bench:
    """Has run."""
    options = Options(works=[work], systems=systems, rounds=1, seconds=0.1, share=share, against=against)
    found = Bench(options)
    found.run()
    return found


# — the whole —


@pytest.mark.parametrize("system", ["history", "program-token"])
def test_storms_of_another_checkout_are_measured_beside_ours(system: str, checkout: Path) -> None:
    found = bench(WORKS["storms"], [system], checkout)
    assert found.failures == []
    (sample,) = found.results[0].samples[system]
    assert sample.values[COST] > 0 < sample.theirs[COST]


@pytest.mark.parametrize("system", ["history", "program-redis", "program-token"])
def test_what_runs_is_the_other_checkout(system: str, tmp_path: Path) -> None:
    module = tmp_path / "theirs" / "gateway" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text("raise SystemExit('it is not ours')")
    theirs = BY_NAME[system].of(tmp_path / "theirs").server(min(os.sched_getaffinity(0)), "redis://127.0.0.1:1")
    with pytest.raises(Failed, match=f"(?s){system} of theirs ended with status 1:.*it is not ours"), theirs:
        pass


def test_a_peer_has_no_other_checkout(tmp_path: Path) -> None:
    options = Options(works=[], systems=[], rounds=1, seconds=0.1, share=1.0, against=tmp_path)
    assert Bench(options)._checkouts("ws") == [BY_NAME["ws"]]


# — turns —


def test_turns_are_taken_on_servers_that_are_up_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    costs = iter([900.0, 900.0, 10.0, 20.0, 11.0, 33.0, 30.0, 21.0])

    @contextmanager
    def running(_: Bench, system: System, _beside: Values) -> Iterator[Any]:
        said.append(f"{system.name} is up")
        yield SimpleNamespace(system=system)
        said.append(f"{system.name} is down")

    def measure(run: Run) -> Values:
        said.append(run.system.name)
        return {COST: next(costs)}

    monkeypatch.setattr(Bench, "_running", running)
    work = Work(name="turns", title="Turns", measure=measure, systems=("gateway",), based=False, turns=4)
    (result,) = bench(work, ["gateway"], tmp_path / "old").results
    both = ["gateway", "gateway of old"]
    assert said == [f"{each} is up" for each in both] + both * 4 + [f"{each} is down" for each in reversed(both)]
    assert result.samples == {"gateway": [Sample(0, {COST: 11.0}, {}, {COST: 21.0})]}


def test_medians_are_of_what_was_measured_each_time() -> None:
    assert medians([{"a": 3.0, "b": 1.0}, {"a": 1.0}, {"a": 2.0}]) == {"a": 2.0}


@pytest.mark.parametrize(
    ("system", "channels", "tokens"),
    [
        ("gateway", 1, 0),
        ("token", 50, 50),
        ("history-redis", 50, 50),
        ("program-redis", 50, 0),
        ("program-token", 50, 50),
    ],
)
def test_clients_come_as_the_system_has_it(system: str, channels: int, tokens: int) -> None:
    server: Any = SimpleNamespace(port=1)
    plan = clients(Run(BY_NAME[system], server, Redises(Layout(), []), 1.0, 0.05, {}, 0), STORM)
    assert (plan.connections, plan.channels, len(set(plan.tokens))) == (50, channels, tokens)
    assert plan.publishers == "none"


def run(used: Iterator[float]) -> Any:
    return SimpleNamespace(system=BY_NAME["gateway"], server=SimpleNamespace(cpu=lambda: next(used)))


def test_a_storm_is_over_when_the_server_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_PAUSE", 0.001)
    used = iter([1.0, 1.5, 1.6, 1.6, 1.6])
    measures._until_idle(run(used))
    assert list(used) == [1.6]


def test_a_server_that_stays_busy_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_PAUSE", 0.001)
    monkeypatch.setattr(measures, "_REST", 0.0)
    with pytest.raises(Failed, match="gateway is still busy 0 s after its connections have closed"):
        measures._until_idle(run(iter([1.0, 2.0])))


# — results —


def test_the_table_compares_what_stood_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.systems.System.versions", lambda system: f"{system.name} 1.0")
    result = Result(Work(name="w", title="W", measure=storm, systems=("ws", "gateway"), based=False))
    for number, (ours, theirs) in enumerate([(100.0, 200.0), (400.0, 600.0), (30.0, 30.0)]):
        result.add("gateway", Sample(number, {COST: ours}, {}, {COST: theirs}))
    result.add("ws", Sample(0, {COST: 50.0}))
    assert table(result).splitlines() == [
        f"| system | versions | {COST} | the other checkout | × the other checkout | {COST}, each round |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| plain ws + Redis | ws 1.0 | 50 |  |  | 50 |",
        "| **gateway** | gateway 1.0 | 100 | 200 | 0.667 | 100, 400, 30 |",
    ]


# — the command line —


def test_a_directory_without_a_gateway_is_no_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["storms", "--against", str(tmp_path)])
    assert f"{tmp_path} is no checkout of the gateway: it has no folder gateway" in capsys.readouterr().err


def test_a_checkout_may_be_given_from_here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers run elsewhere."""
    monkeypatch.chdir(checkout.parent)
    assert parse(["storms", "--against", "theirs"])[0].against == checkout
