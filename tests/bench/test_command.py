"""``gateway bench``, from its options to what it prints."""

import json
import os
import re
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from gateway.bench import printing
from gateway.bench.command import parse_address
from gateway.bench.plan import LoadError
from gateway.bench.report import Report
from gateway.errors import SettingsError
from gateway.serve import cli
from tests.integration.servers import GatewayServer
from tests.integration.tokens import SECRET
from tests.waiting import until_blocking

QUICK = ["--seconds", "0.3", "--warmup", "0", "-n", "10"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)


def bench(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.app, ["bench", *QUICK, *arguments], env=environment)


def signed(gateway: GatewayServer, *arguments: str) -> Result:
    return bench("--url", gateway.ws_url, *arguments, GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY=SECRET)


def test_people_are_shown_tables(gateway: GatewayServer) -> None:
    done = signed(gateway)
    assert done.exit_code == 0, done.output
    for pattern in (r"Connections +10 of 10, [\d,]+/s", r"Deliveries +[\d,]+, [\d,]+/s", r"Latency p99\.9 .* [mµ]?s"):
        assert re.search(pattern, done.stdout), done.stdout
    assert "█" in done.stdout
    assert "Error" not in done.stdout


def test_programs_are_given_json(gateway: GatewayServer) -> None:
    done = signed(gateway, "--json", "--channels", "2", "--publishers", "each", "--inflight", "4", "--size", "200")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["connections"]["connected"] == 10
    assert found["deliveries"] > 0 < found["deliveries_per_second"]
    assert found["errors"] == {}
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99.9"] <= found["latency"]["max"]
    assert sum(row["deliveries"] for row in found["latency"]["histogram"]) > 0


def test_idle_connections_are_a_success(gateway: GatewayServer) -> None:
    done = signed(gateway, "--publishers", "none", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["deliveries"] == 0


def test_a_token_may_be_given(gateway: GatewayServer) -> None:
    done = bench("--url", gateway.ws_url, "--token", "x.y.z")
    assert done.exit_code == 1
    assert "closed 3500: invalid token │ 10" in done.stdout


def test_without_a_token_one_is_anonymous(gateway: GatewayServer) -> None:
    done = bench("--url", gateway.ws_url, "--json")
    assert done.exit_code == 1
    assert sum(json.loads(done.stdout)["errors"].values()) == 10


def test_the_address_comes_from_the_settings(gateway: GatewayServer) -> None:
    address = {"GATEWAY_HTTP_SERVER__PORT": str(gateway.port), "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET}
    assert bench(**address).exit_code == 0


def test_deliveries_that_do_not_come_are_a_failure(gateway: GatewayServer) -> None:
    done = signed(gateway, "--prefix", "closed:x")
    assert done.exit_code == 1
    assert "subscribe: permission denied (103)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "ftp://127.0.0.1"], "is not an address such as http://"),
        (["--url", "ws://no-such-host.invalid"], "no-such-host.invalid: "),
        (["--channels", "11"], "--channels 11 needs as many --connections, which are 10"),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ],
)
def test_what_makes_no_sense_is_told(arguments: list[str], message: str) -> None:
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_connections_that_do_not_fit_take_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(_plan: Any, processes: int, _progress: Any) -> Report:
        asked.append(processes)
        raise LoadError("no more")

    monkeypatch.setattr("gateway.bench.processes.run", run)
    monkeypatch.setattr("gateway.bench.processes.room", lambda: 4)
    done = bench("--url", "ws://127.0.0.1:1")
    assert done.exit_code == 2
    assert done.stderr == "10 connections take 3 processes: see ulimit -n\ngateway: no more\n"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_prints_what_was_measured(gateway: GatewayServer, tmp_path: Path, processes: str) -> None:
    """The signal reaches all processes, as from a terminal."""
    command = [sys.executable, "-m", "gateway", "bench", "--url", gateway.ws_url, "-n", "4", "--seconds", "100"]
    environment = {**os.environ, "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET}
    before = _delivered(gateway)
    with subprocess.Popen(
        [*command, "--warmup", "0", "--processes", processes],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        until_blocking(lambda: _delivered(gateway) > before + 100, 30.0)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Interrupted" in output
    assert re.search(r"Deliveries +[\d,]+, ", output), output


def _delivered(gateway: GatewayServer) -> int:
    """How many messages the kernel has carried for the gateway, as far as that can be told from outside."""
    fields = Path(f"/proc/{gateway.pid}/io").read_text().split()
    return int(fields[fields.index("syscw:") + 1])


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("ws://127.0.0.1:8000/connection/websocket", (False, "127.0.0.1", 8000, "/connection/websocket")),
        ("wss://example.com", (True, "example.com", 443, "")),
        ("ws://[::1]/x?y=z", (False, "::1", 80, "/x?y=z")),
    ],
)
def test_addresses(url: str, parts: tuple[bool, str, int, str]) -> None:
    assert parse_address(url) == parts


@pytest.mark.parametrize("url", ["", "ws://", "ftp://x", "ws://x:y", "ws://x/a b", "ws://x/é", "ws://[x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(SettingsError):
        parse_address(url)


# — printing —


def printed(report: Report) -> str:
    output = StringIO()
    printing.show(report, Console(width=100, file=output))
    return output.getvalue()


def test_times_read_well() -> None:
    report = Report(seconds=1.0)
    for micros in (70, 2_300, 1_500_000):
        report.latency.add(micros)
    text = printed(report)
    for words in ("128 µs", "4.1 ms", "1.5 s"):
        assert words in text


def test_trouble_is_shown() -> None:
    report = Report(seconds=1.0, out_of_order=3, errors={"[red]closed 3008": 1234}, busy=0.95, interrupted=True)
    text = printed(report)
    for words in ("Out of order  3", "[red]closed 3008", "1,234", "--processes", "Interrupted"):
        assert words in text


def test_the_bar_follows_the_phases() -> None:
    output = StringIO()
    with printing.progress_bar(Console(width=100, force_terminal=True, file=output)) as progress:
        progress("connecting", 500, 1000)
        progress("connecting", 1000, 1000)
        progress("measuring", 3.2, 10.0)
    assert "measuring" in output.getvalue()
    assert "3/10 s" in output.getvalue()
