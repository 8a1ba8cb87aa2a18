import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth as bench
from bench.growth import (
    COST,
    EACH,
    NODE_COLUMNS,
    REDIS_COST,
    RESIDENT,
    SPREAD_COLUMNS,
    Growth,
    Measuring,
    Options,
    Spread,
    about,
    page,
    parse,
    plot,
)
from bench.measures import DELIVERIES, MEMORY, Values
from bench.servers import Failed
from gateway.bench.plan import LoadError

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def filled(columns: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(columns, 1.0)


@pytest.fixture
def growth() -> Growth:
    """Three rounds, the second of a machine that was busy with something else."""
    found = Growth()
    for spread in (Spread(10, 1), Spread(1_000, 1), Spread(1_000, 100)):
        found.spreads[spread] = [
            {**filled(SPREAD_COLUMNS), DELIVERIES: speed * spread.subscribers, RESIDENT: 81.5, MEMORY: 3.5625}
            for speed in (1000.0, 10.0, 1001.0)
        ]
    for nodes in (1, 2, 3):
        costs = {COST: 400.0 + nodes, EACH: 400.0 / nodes, REDIS_COST: 12.0}
        found.nodes[nodes] = [{**filled(NODE_COLUMNS), **costs}]
    return found


# — the page —


def rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_page_has_the_medians_of_all_that_was_measured(growth: Growth) -> None:
    spreads, nodes = re.split(r"^## Nodes$", page(growth, "about it"), flags=re.MULTILINE)
    assert spreads.startswith("# How it grows\n\nabout it\n\n![")
    assert [row[:7] for row in rows(spreads)] == [
        ["subscribers", "channels", "subscribers of each", "deliveries/s", "messages/s", "MB resident", MEMORY],
        ["---:"] * 7,
        ["10", "1", "10", "10,000", "1", "81.5", "3.56"],
        ["1,000", "1", "1,000", "1,000,000", "1", "81.5", "3.56"],
        ["1,000", "100", "10", "1,000,000", "1", "81.5", "3.56"],
    ]
    assert [row[:6] for row in rows(nodes)] == [
        ["nodes", "subscribers of each", COST, "all nodes, µs per delivery", EACH, REDIS_COST],
        ["---:"] * 6,
        ["1", "1,000", "401", "1", "400", "12"],
        ["2", "500", "402", "1", "200", "12"],
        ["3", "333", "403", "1", "133", "12"],
    ]


def test_page_tells_what_failed(growth: Growth) -> None:
    assert "Not measured" not in page(growth, "")
    growth.spreads[Spread(15_000, 1)] = []
    growth.failures.append("15,000 subscribers, 1 channel: it broke")
    text = page(growth, "")
    assert text.endswith("\n\n## Not measured\n\n- 15,000 subscribers, 1 channel: it broke\n")
    assert "| 15,000 |" not in text


# — the plot —


def drawn(growth: Growth, path: Path) -> ElementTree.Element:
    plot(growth, path)
    return ElementTree.parse(path).getroot()  # noqa: S314  it is our own


def test_plot_is_svg_with_three_panels_and_a_line_for_each_number_of_channels(growth: Growth, tmp_path: Path) -> None:
    root = drawn(growth, tmp_path / "growth.svg")
    assert root.tag == f"{SVG}svg"
    texts = ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]
    assert {"Deliveries per second", "Memory of the node (MB)", "µs of processor per message"} <= set(texts)
    assert texts.count("1 channel") == texts.count("100 channels") == 2
    assert texts.count("all nodes") == texts.count("each node") == texts.count("Redis") == 1
    assert [group.get("id") for group in root.iter(f"{SVG}g") if re.fullmatch(r"axes_\d", group.get("id", ""))] == [
        "axes_1",
        "axes_2",
        "axes_3",
    ]


def test_plot_can_be_read_on_any_page(growth: Growth, tmp_path: Path) -> None:
    root = drawn(growth, tmp_path / "growth.svg")
    background = root.find(f".//{SVG}g[@id='patch_1']/{SVG}path")
    assert background is not None
    assert "fill: #ffffff" in background.get("style", "")
    styles = [text.get("style", "") for text in root.iter(f"{SVG}text")]
    sizes = [float(size) for style in styles for size in re.findall(r"font-size: ([\d.]+)px", style)]
    assert len(sizes) == len(styles)
    assert min(sizes) >= 9  # of 912 pixels across, so a little less on a narrow page


def test_same_figures_make_the_same_plot(growth: Growth, tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        plot(growth, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert "<dc:date>" not in (tmp_path / "one.svg").read_text()


# — measuring —


def test_smoke_writes_the_page_and_the_plot(tmp_path: Path) -> None:
    command = [str(ROOT / "bench" / "growth"), "--smoke", "--output-directory", str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["growth.md", "growth.svg"]
    _, *spreads = [row for row in rows((tmp_path / "growth.md").read_text()) if row[0] in ("subscribers", "100")]
    assert [row[:3] for row in spreads] == [["100", "1", "100"], ["100", "100", "1"]]
    assert all(float(row[3].replace(",", "")) > 0 for row in spreads)


def test_a_round_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(_: Measuring, what: Spread) -> Values:
        if what.subscribers == 10:
            raise Failed("it broke\nand logged this")
        return {DELIVERIES: 1.0}

    def shared(_: Measuring, nodes: int) -> Values:
        if nodes == 2:
            raise LoadError("too many")
        return {COST: 1.0}

    monkeypatch.setattr(Measuring, "_spread", spread)
    monkeypatch.setattr(Measuring, "_shared", shared)
    monkeypatch.setattr("os.sched_setaffinity", lambda _process, _cores: None)
    measuring = Measuring(Options(spreads=[Spread(10, 1), Spread(20, 1)], nodes=[1, 2], rounds=2, seconds=1.0))
    measuring.run()
    found = measuring.growth
    assert found.spreads == {Spread(10, 1): [], Spread(20, 1): [{DELIVERIES: 1.0}] * 2}
    assert found.nodes == {1: [{COST: 1.0}] * 2, 2: []}
    assert found.failures == ["10 subscribers, 1 channel: it broke", "2 nodes: too many"] * 2


# — the command line —


def test_a_full_run_has_never_more_channels_than_subscribers() -> None:
    options, directory = parse([])
    assert (options.rounds, options.seconds, directory) == (3, 5.0, Path("docs"))
    assert len(options.spreads) == len(set(options.spreads)) == 11
    assert all(spread.channels <= spread.subscribers for spread in options.spreads)
    assert {spread.channels for spread in options.spreads} == {1, 100, 10_000}
    assert list(options.nodes) == [1, 2, 3, 4]


def test_a_smoke_run_does_not_replace_the_page() -> None:
    options, directory = parse(["--smoke"])
    assert (options.rounds, options.seconds) == (1, 0.5)
    assert directory.is_absolute()
    assert parse(["--smoke", "--output-directory", "there"])[1] == Path("there")


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "0"], ["unknown"]])
def test_nonsense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert "error" in capsys.readouterr().err


def test_about_says_how_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "machine", lambda: "a machine")
    assert about(parse(["--rounds", "1", "--seconds", "2"])[0]).endswith("medians of 1 round of 2 s.")
