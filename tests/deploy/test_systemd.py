"""The unit for systemd, as systemd itself reads it."""

import re
import sys
from pathlib import Path

import pytest

from gateway.config.settings import Settings
from tests.deploy.balancers import ROOT
from tests.deploy.test_deploy import program, run

UNIT = ROOT / "deploy/systemd/gateway.service"
EXPOSED = 1.5
"""Of ten, where a service without any confinement has more than nine."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with programs that are here."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/gateway/bin/gateway", sys.executable))
    return path


def test_systemd_knows_what_it_says(unit: Path) -> None:
    assert not run(program("systemd-analyze", "systemd"), "verify", "--man=no", str(unit))


def test_it_is_confined(unit: Path) -> None:
    told = run(program("systemd-analyze", "systemd"), "security", "--offline=yes", "--no-pager", str(unit))
    level = re.search(r"Overall exposure level for gateway.service: ([\d.]+)", told)
    assert level
    assert float(level[1]) <= EXPOSED


def test_it_has_time_to_stop() -> None:
    shutdown = Settings().shutdown
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) >= shutdown.grace + shutdown.drain_time + 30
