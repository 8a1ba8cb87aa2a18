"""The formulas of docs/scale.md hold for what the gateway does, and the tables are made of them."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from bench import capacity
from bench.capacity import (
    HALF,
    Comparison,
    Count,
    by_chance,
    deliveries,
    interested,
    least,
    moved,
    need,
    service,
    share,
    signs_of_life,
)
from bench.constants import Constants, medians
from bench.redises import Layout
from bench.scale import CELLS, COUNTED, LAYOUTS, SEED, SIZES, comparisons, count, nodes_for, page, parse
from gateway.jump import jump

ROOT = Path(__file__).parent.parent

COSTS = Constants(
    append=14.0,
    append_alone=58.0,
    publish=1.0,
    publish_alone=29.0,
    delivery=0.3,
    delivery_alone=4.5,
    subscribe=1.5,
    subscription_bytes=228.0,
    further_bytes=148.0,
    stream_bytes=995.0,
)


def test_formulas_say_what_is_counted() -> None:
    counted = count(20_000, seed=1)
    assert [each.what for each in counted if not each.fits] == []
    assert sum(each.bound for each in counted) == len(LAYOUTS)


def test_the_page_of_the_docs_has_this_very_count() -> None:
    assert comparisons(count(COUNTED, SEED)) in (ROOT / "docs" / "scale.md").read_text()


def test_a_formula_that_is_wrong_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "interested", lambda subscribers, nodes: min(subscribers, nodes))
    monkeypatch.setattr(capacity, "moved", lambda servers: 1 / servers)
    wrong = [each.what for each in count(4_000, seed=1) if not each.fits]
    assert "nodes that hear of one of 200 channels with 20 subscribers" in wrong
    assert "shards of 4: channels that move to one more, %" in wrong


def test_the_same_seed_counts_the_same() -> None:
    one, other, third = (list(Count(service(2_000), 10, Random(seed)).compare(LAYOUTS)) for seed in (5, 5, 6))
    assert one == other != third


def test_few_subscribers_are_on_as_many_nodes_and_many_on_all() -> None:
    assert interested(1, 100) == pytest.approx(1)
    assert interested(20, 667) == pytest.approx(19.7, abs=0.1)
    assert interested(500_000, 667) == pytest.approx(667)
    assert deliveries(service(1_000), 1) == pytest.approx(10 + 5 + 1)


def test_a_cluster_deals_out_whole_partitions() -> None:
    assert share(Layout(4)) == 0.25
    assert share(Layout(3, cluster=True)) == 43 / 128
    assert share(Layout(128, cluster=True)) == 1 / 128
    assert share(Layout(100, cluster=True)) == 2 / 128


def test_few_channels_are_spread_less_evenly() -> None:
    few, many = by_chance(0.25, service(100)), by_chance(0.25, service(100_000))
    assert few > 10 * many
    assert many < 0.02


def test_channels_that_move_all_go_to_the_new_shard() -> None:
    names = [f"room:{number}" for number in range(10_000)]
    for servers in (1, 2, 3, 7):
        after = [jump(name, servers + 1) for name in names]
        changed = [place for name, place in zip(names, after, strict=True) if place != jump(name, servers)]
        assert set(changed) == {servers}
        assert len(changed) / len(names) == pytest.approx(moved(servers), rel=0.1)


def test_what_counts_of_several_rounds_is_the_median() -> None:
    rounds = [replace(COSTS, append=cost) for cost in (20.0, 13.0, 14.5)]
    assert medians(rounds) == replace(COSTS, append=14.5)


def test_signs_of_life_go_by_every_shard_and_by_one_primary() -> None:
    crowds = service(2_500_000)
    shards, cluster = (need(crowds, 167, Layout(4, cluster=kind), COSTS) for kind in (False, True))
    assert shards.busy == cluster.busy > shards.signs > 0.05
    assert shards.cores - cluster.cores == pytest.approx(3 * shards.signs)


def test_servers_are_as_few_as_leave_half_of_the_busiest() -> None:
    crowds = service(1_000_000)
    found = least(crowds, 67, COSTS, cluster=False)
    assert found is not None
    assert found.busy <= HALF
    fewer = need(crowds, 67, Layout(found.layout.servers - 1), COSTS)
    assert fewer.busy > HALF


def test_no_number_of_servers_helps_where_nodes_talk_too_much() -> None:
    nodes = nodes_for(SIZES[-1])
    assert signs_of_life(nodes) * COSTS.delivery_alone / 1e6 > HALF
    assert least(service(SIZES[-1]), nodes, COSTS, cluster=True) is None
    assert least(service(SIZES[-1] // CELLS), nodes_for(SIZES[-1] // CELLS), COSTS, cluster=True) is not None


def test_the_page_has_a_row_for_each_way() -> None:
    text = page(COSTS, [Comparison("what", 100.0, 101.0), Comparison("most", 100.0, 99.0, bound=True)], "about")
    assert text.startswith("about\n\n### What things cost Redis\n")
    assert "| 10,000 | 2 | one server | 1 |" in text
    assert f"| {CELLS} × 2,500,000 | {CELLS} × 167 | Cluster | " in text
    assert "| 10,000,000 | 667 | Cluster | none does |" in text
    assert "| what | 100 | 101 | +1.0 % |\n| most | 100 | 99 | ≤ |" in text


def test_smoke_measures_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    command = [str(ROOT / "bench" / "scale"), "--smoke", "--output", str(path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    prices = [float(row[1].replace(",", "")) for row in rows[2:12]]
    assert min(prices) > 0


@pytest.mark.parametrize("arguments", [["--users", "10"], ["--rounds", "0"], ["--seed", "none"], ["unknown"]])
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert "error" in capsys.readouterr().err
