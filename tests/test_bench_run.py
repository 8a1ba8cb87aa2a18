"""``bench/run`` works; how fast anything is, it judges itself, in rounds and by ratios."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.deliveries import FORMS
from bench.measures import Values
from bench.report import markdown, number
from bench.results import Result, Sample
from bench.servers import Failed, Server
from bench.systems import BY_NAME, LIMIT
from bench.works import Bar, Work
from tests.waiting import until_blocking

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHON": sys.executable}


def bench_run(*arguments: str) -> subprocess.Popen[str]:
    command = [str(ROOT / "bench" / "run"), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> dict[str, int]:
    """Names and ids of the processes that a process has started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = entry.read_text().rpartition(")")
        except OSError:
            continue  # it has just ended
        if int(after.split()[1]) == pid:
            child, _, name = before.partition(" (")
            found[name] = int(child)
    return found


# — the whole —


def test_smoke_makes_a_table_with_the_limit_and_the_gateway() -> None:
    with bench_run("--smoke") as process:
        table, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows][:4] == ["| system", "| ---", "| limit (C)", "| **gateway**"]
    limit, gateway = rows[2], rows[3]
    assert limit[1].startswith("gcc ")
    assert gateway[1].startswith("gateway ")
    for row in (limit, gateway):
        assert float(row[2].replace(",", "")) > 0, table


def test_shards_and_a_cluster_are_measured_beside_one_redis() -> None:
    with bench_run("shards", "--smoke", "--systems", "redis-2,cluster-3") as process:
        table, log = process.communicate(timeout=240)
    assert table, log  # bars are for a full run: the exit code does not count them
    assert process.returncode == 0, log
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| **")]
    titles = ["**gateway** + one Redis", "**gateway** + two shards", "**gateway** + Cluster of three"]
    assert [row[0] for row in rows] == titles
    for row in rows:
        assert float(row[4]) > 0, table  # µs of Redis for a publication
    assert float(rows[0][5]) == 100
    assert float(rows[1][5]) < 75, table  # its share of a hundred channels, of which one server has most


def test_a_restart_of_one_primary_is_measured() -> None:
    with bench_run("resubscribe", "--smoke", "--systems", "channels-cluster") as process:
        table, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    head, _, row = ([cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("|"))
    found = dict(zip(head, row, strict=True))
    assert found["channels"] == "10,000"
    assert found["missed there"] == "0", table
    assert float(found["s until all are subscribed"]) > 0
    assert float(found["s until the live one is"]) > 0


def test_forms_are_measured_beside_json() -> None:
    with bench_run("forms-32", "--smoke", "--systems", "gateway-redis") as process:
        table, log = process.communicate(timeout=110)
    assert process.returncode == 0, log
    head, _, row = ([cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("|"))
    found = dict(zip(head, row, strict=True))
    assert found["system"] == "**gateway** + Redis"
    assert all(float(found[f"{form.way.name}, × JSON"]) > 0 for form in FORMS), table


def test_ctrl_c_ends_the_servers_and_says_so() -> None:
    with bench_run("fanout-2", "--systems", "limit", "--seconds", "600") as process:
        until_blocking(lambda: "limit" in children(process.pid), 60.0, "the limit runs")
        servers = children(process.pid)
        assert {"redis-server", "limit"} <= set(servers)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "interrupted" in log
    assert not [pid for pid in servers.values() if Path(f"/proc/{pid}").exists()]


def test_an_unknown_system_is_named() -> None:
    with bench_run("--systems", "limit,snail") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no such system: snail" in log


def test_a_server_that_does_not_start_shows_its_log() -> None:
    program = [sys.executable, "-c", "raise SystemExit('no luck')"]
    with pytest.raises(Failed, match=r"(?s)dud ended with status 1:.*no luck"), Server("dud", program, 0, 1):
        pass


# — the limit —


@pytest.fixture(scope="module")
def limit() -> Iterator[str]:
    LIMIT.prepare()
    with BY_NAME["limit"].server(min(os.sched_getaffinity(0)), "") as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


@pytest.fixture
async def two(limit: str) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    async with connect(limit, compression=None) as one, connect(limit, compression=None) as other:
        yield one, other


async def test_limit_sends_each_message_to_all(two: tuple[ClientConnection, ClientConnection]) -> None:
    one, other = two
    for text in ("hello", "x" * 125, "y" * 126, "z" * 4000):
        await one.send(text)
        assert [await one.recv(), await other.recv()] == [text, text]


async def test_limit_answers_pings(two: tuple[ClientConnection, ClientConnection]) -> None:
    await (await two[0].ping(b"are you there"))


async def test_limit_lives_on_when_clients_leave_or_break_the_rules(
    two: tuple[ClientConnection, ClientConnection], limit: str
) -> None:
    one, other = two
    await other.close()
    async with connect(limit, compression=None) as rude:
        await rude.send(["a fragment", " is more than it takes"])
        with pytest.raises(ConnectionClosed):
            await rude.recv()
    await one.send("still there")
    assert await one.recv() == "still there"


# — results —


def measure(_run: object) -> Values:
    raise AssertionError("not called")


@pytest.fixture
def result() -> Result:
    """Three rounds of a machine that grows slower: what is compared was measured side by side."""
    bars = (
        Bar(value="n", of="limit", least=0.5),
        Bar(value="n", of="tutorial", least=4.5),
        Bar(value="ms", most=2.0),
        Bar(value="n", system="ws", least=1.0),
    )
    work = Work(
        name="work", title="A work", measure=measure, systems=("limit", "gateway", "tutorial"), based=True, bars=bars
    )
    result = Result(work)
    for round_, speed in enumerate((4000, 2000, 1000)):
        beside = {"n": float(speed)}
        result.add("limit", Sample(round_, beside, {}))
        result.add("gateway", Sample(round_, {"n": speed / 2, "ms": 3.0}, beside))
        result.add("tutorial", Sample(round_, {"n": speed / 8}, beside))
    return result


def test_ratios_are_of_one_round(result: Result) -> None:
    del result.samples["tutorial"][0]  # it failed in the fast round
    assert result.ratio("gateway", "limit", "n") == 0.5
    assert result.ratio("gateway", "tutorial", "n") == 4.0
    assert result.median("gateway", "n") == 1000


def test_bars_of_what_was_measured_are_judged(result: Result) -> None:
    assert [(reached, passed) for _, reached, passed in result.verdicts()] == [(0.5, True), (4.0, False), (3.0, False)]


def test_page_tells_what_failed(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.systems.System.versions", lambda system: f"{system.name} 1.0")
    page = markdown([result], "about", ["work, round 1, tutorial: it broke"])
    assert page.startswith("about\n\n## A work\n\n`work`\n\n| system | versions | n | ms | × limit | × tutorial |")
    assert "| **gateway** | gateway 1.0 | 1,000 | 3 | 0.5 | 4 | 2,000, 1,000, 500 |" in page
    assert "| work | gateway | n × tutorial | ≥ 4.5 | 4 | **no** |" in page
    assert page.endswith("## Not measured\n\n- work, round 1, tutorial: it broke\n")


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (None, 0.0, 0.12345, 12.345, 123.45, 1234567.0)] == [
        "",
        "0",
        "0.123",
        "12.3",
        "123",
        "1,234,567",
    ]
