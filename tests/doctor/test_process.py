"""Limits of open files."""

import resource
from typing import Any

import pytest

from gateway import Settings
from gateway.doctor.finding import Finding, Level
from gateway.doctor.process import examine_files


def found(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int = resource.RLIM_INFINITY, **client: Any) -> Finding:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    [finding] = examine_files(Settings(client=client))
    return finding


def test_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, 10_200).text == "a process started here may have 10200"
    assert found(monkeypatch, resource.RLIM_INFINITY).text == "a process started here may have any number"
    assert found(monkeypatch, 1024, connection_limit=800).level is Level.OK


def test_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    few = found(monkeypatch, 1024)
    assert (few.level, "10200: 10000 connections" in few.text) == (Level.WARNING, True)
    assert few.remedy.startswith("ulimit -n 10200; for a service LimitNOFILE=10200")
    assert "root" not in few.remedy


def test_fewer_than_the_limit_of_connections_and_root_must_help(monkeypatch: pytest.MonkeyPatch) -> None:
    few = found(monkeypatch, 1024, 4096, connection_limit=50_000)
    assert "50200: 50000 client.connection_limit" in few.text
    assert few.remedy.endswith("root must raise the hard limit, which is 4096")
    assert "root" not in found(monkeypatch, 1024, 100_000, connection_limit=50_000).remedy
