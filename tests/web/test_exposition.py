"""What Prometheus reads."""

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import files
from gateway.health import ServerHealth
from gateway.metrics import Gauges, Metrics
from gateway.web.exposition import render

GAUGES = Gauges(
    connections=7,
    users=5,
    subscriptions=11,
    channels=3,
    nodes=2,
    broker_connected=True,
    broker_lag=0.25,
    broker_reconnects=4,
    skipped={"control": 14},
    broker_servers=(
        ServerHealth("10.0.0.1:6379", lag=0.125, reconnects=3, keys=15, memory=16, max_memory=0),
        ServerHealth("10.0.0.2:6379", "1", connected=False, deaf=True, reconnects=1),
    ),
    broker_refused={"OOM": 14},
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=lambda: 1000.0)


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(render(metrics).decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_counters_begin_at_nothing(metrics: Metrics) -> None:
    found = scraped(metrics)
    assert found[("gateway_publications_in_total",)] == 0
    assert set(found.values()) == {0}
    assert metrics.started_at == 1000.0


def test_counts(metrics: Metrics) -> None:
    metrics.publications_in = 1
    metrics.publications_out = 2
    metrics.delivered(30, 400)
    metrics.delivered(3, 40)
    metrics.bytes_in = 5
    metrics.lost_positions = 6
    metrics.commands["ConnectRequest"] += 7
    metrics.errors[103] += 8
    metrics.disconnects[3001] += 9
    metrics.refused_connections["connection_limit"] += 12
    metrics.failed_publications["maybe"] += 13
    metrics.over_limit["client_command", "publish", False] += 15
    metrics.recoveries[True] += 10
    metrics.recoveries[False] += 11
    assert scraped(metrics) == {
        ("gateway_publications_in_total",): 1,
        ("gateway_publications_out_total",): 2,
        ("gateway_deliveries_total",): 33,
        ("gateway_sent_bytes_total",): 440,
        ("gateway_received_bytes_total",): 5,
        ("gateway_lost_positions_total",): 6,
        ("gateway_commands_total", "ConnectRequest"): 7,
        ("gateway_errors_total", "103"): 8,
        ("gateway_disconnects_total", "3001"): 9,
        ("gateway_refused_connections_total", "connection_limit"): 12,
        ("gateway_failed_publications_total", "maybe"): 13,
        ("gateway_over_limit_total", "publish", "false", "client_command"): 15,
        ("gateway_recoveries_total", "true"): 10,
        ("gateway_recoveries_total", "false"): 11,
    }


def test_connections_cut_off_unheard_are_refused_too(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CUT", Counter(file_limit=2))
    metrics.refused_connections["file_limit"] += 3
    assert scraped(metrics)["gateway_refused_connections_total", "file_limit"] == 5


def test_gauges_are_read_when_asked_for(metrics: Metrics) -> None:
    metrics.watch(lambda: GAUGES)
    found = scraped(metrics)
    assert {name[0]: value for name, value in found.items() if value} == {
        "gateway_connections": 7,
        "gateway_users": 5,
        "gateway_subscriptions": 11,
        "gateway_channels": 3,
        "gateway_nodes": 2,
        "gateway_broker_connected": 1,
        "gateway_broker_lag_seconds": 0.25,
        "gateway_broker_reconnects_total": 4,
        "gateway_skipped_messages_total": 14,
        "gateway_broker_errors_total": 14,
        "gateway_broker_shard_connected": 1,
        "gateway_broker_shard_deaf": 1,
        "gateway_broker_shard_lag_seconds": 0.125,
        "gateway_broker_shard_reconnects_total": 1,
        "gateway_broker_shard_keys": 15,
        "gateway_broker_shard_memory_bytes": 16,
    }
    assert found["gateway_broker_errors_total", "OOM"] == 14
    assert found["gateway_broker_shard_max_memory_bytes", "10.0.0.1:6379", "0"] == 0
    assert ("gateway_broker_shard_keys", "10.0.0.2:6379", "1") not in found  # it has not told
    assert found["gateway_broker_shard_connected", "10.0.0.1:6379", "0"] == 1
    assert found["gateway_broker_shard_connected", "10.0.0.2:6379", "1"] == 0
    assert found["gateway_broker_shard_reconnects_total", "10.0.0.1:6379", "0"] == 3


def test_every_metric_is_explained(metrics: Metrics) -> None:
    metrics.watch(lambda: GAUGES)
    families = list(text_string_to_metric_families(render(metrics).decode()))
    assert len(families) == 30
    assert all(family.documentation for family in families)
