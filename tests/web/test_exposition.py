"""What Prometheus reads."""

from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from gateway import files
from gateway.health import ServerHealth
from gateway.metrics import Gauges, Metrics, NamespaceCounts, Reads
from gateway.web.exposition import DEFINITIONS, Family, Reading, read
from gateway.web.process import Process
from gateway.web.rendering import render
from tests.web.metrics_table import PAGE, table

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
    draining=True,
    warnings=6,
    waiting_publications=8,
    waiting_bytes=800,
    history_reads=Reads(20, 30),
    presence_reads=Reads(40, 50),
    name="one",
    version="1.2.3",
)
QUIET = Gauges(0, 0, 0, 0, 0, False, 0.0, 0)
PROCESS = Process(seconds=1.5, resident=1024, descriptors=12, most=100)
NOTHING_KNOWN = Process(0.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(clock=lambda: 1000.0)


def families(metrics: Metrics, gauges: Gauges = QUIET, process: Process = NOTHING_KNOWN) -> list[Family]:
    return read("n1", Reading(metrics, gauges, process))


def scraped(metrics: Metrics, gauges: Gauges = QUIET, process: Process = NOTHING_KNOWN) -> dict[tuple[str, ...], float]:
    """By name and labels, as Prometheus' own parser reads them; the node, which all have, is left out."""
    body, _ = render(families(metrics, gauges, process))
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("node") == "n1"
            found[(sample.name, *labels.values())] = sample.value
    return found


def test_counters_begin_at_nothing(metrics: Metrics) -> None:
    found = scraped(metrics)
    assert found[("gateway_publications_in_total",)] == 0
    assert {name[0] for name, value in found.items() if value} == {"gateway_build_info", "process_start_time_seconds"}
    assert found[("process_start_time_seconds",)] == metrics.started_at == 1000.0


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
    metrics.opened_connections["http_stream"] += 13
    metrics.failed_publications["maybe"] += 13
    metrics.over_limit["client_command", "publish", False] += 15
    metrics.recoveries[True] += 10
    metrics.recoveries[False] += 11
    metrics.dropped["held"] += 14
    metrics.api_errors["publish", 102] += 15
    metrics.namespaces = {"chat": NamespaceCounts()}
    metrics.namespaces["chat"].publications_in = 16
    metrics.namespaces["chat"].publications_out = 17
    metrics.namespaces["chat"].deliveries = 18
    found = scraped(metrics)
    assert {name: value for name, value in found.items() if value and name[0].endswith("_total")} == {
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
        ("gateway_opened_connections_total", "http_stream"): 13,
        ("gateway_failed_publications_total", "maybe"): 13,
        ("gateway_over_limit_total", "publish", "false", "client_command"): 15,
        ("gateway_recoveries_total", "true"): 10,
        ("gateway_recoveries_total", "false"): 11,
        ("gateway_dropped_publications_total", "held"): 14,
        ("gateway_api_errors_total", "102", "publish"): 15,
        ("gateway_namespace_publications_in_total", "chat"): 16,
        ("gateway_namespace_publications_out_total", "chat"): 17,
        ("gateway_namespace_deliveries_total", "chat"): 18,
    }


class Slow:
    """A client that has so many bytes waiting."""

    def __init__(self, size: int) -> None:
        self.size = size

    def waiting(self) -> int:
        return self.size


def test_connections_cut_off_unheard_are_refused_too(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CUT", Counter(file_limit=2))
    metrics.refused_connections["file_limit"] += 3
    assert scraped(metrics)["gateway_refused_connections_total", "file_limit"] == 5


def test_gauges(metrics: Metrics) -> None:
    metrics.slow = {Slow(100), Slow(23)}
    found = scraped(metrics, GAUGES, PROCESS)
    assert {name[0]: value for name, value in found.items() if value} == {
        "gateway_build_info": 1,
        "gateway_connections": 7,
        "gateway_users": 5,
        "gateway_subscriptions": 11,
        "gateway_channels": 3,
        "gateway_nodes": 2,
        "gateway_draining": 1,
        "gateway_warnings": 6,
        "gateway_slow_clients": 2,
        "gateway_queued_bytes": 123,
        "gateway_waiting_publications": 8,
        "gateway_waiting_bytes": 800,
        "gateway_history_reads_total": 30,
        "gateway_presence_reads_total": 50,
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
        "process_resident_memory_bytes": 1024,
        "process_open_fds": 12,
        "process_max_fds": 100,
        "process_cpu_seconds_total": 1.5,
        "process_start_time_seconds": 1000,
    }
    assert found["gateway_broker_errors_total", "OOM"] == 14
    assert found["gateway_history_reads_total", "false"] == 20
    assert found["gateway_presence_reads_total", "true"] == 50
    assert found["gateway_broker_shard_max_memory_bytes", "10.0.0.1:6379", "0"] == 0
    assert ("gateway_broker_shard_keys", "10.0.0.2:6379", "1") not in found  # it has not told
    assert found["gateway_broker_shard_connected", "10.0.0.1:6379", "0"] == 1
    assert found["gateway_broker_shard_connected", "10.0.0.2:6379", "1"] == 0
    assert found["gateway_broker_shard_reconnects_total", "10.0.0.1:6379", "0"] == 3
    [build] = [name for name in found if name[0] == "gateway_build_info"]
    assert (build[1], build[3]) == ("one", "1.2.3")


def test_histograms_are_cumulative(metrics: Metrics) -> None:
    for seconds in (0.0005, 0.001, 0.3, 0.3, 60.0):
        metrics.connect_time.observe(seconds)
    metrics.api_time["publish"].observe(0.02)
    metrics.handler_time["on_publish"].observe(0.2)
    found = scraped(metrics)
    buckets = {name[1]: value for name, value in found.items() if name[0] == "gateway_connect_seconds_bucket"}
    assert (buckets["0.001"], buckets["0.25"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (2, 2, 4, 4, 5)
    assert found[("gateway_connect_seconds_count",)] == 5
    assert found[("gateway_connect_seconds_sum",)] == pytest.approx(60.6015)
    assert found["gateway_api_seconds_count", "publish"] == found["gateway_handler_seconds_count", "on_publish"] == 1


def test_every_metric_is_explained(metrics: Metrics) -> None:
    told = families(metrics, GAUGES, PROCESS)
    body, _ = render(told)
    found = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert found.keys() == {each.name for each in DEFINITIONS}
    for each in DEFINITIONS:
        assert (found[each.name].documentation, found[each.name].type) == (each.help, each.kind)
        assert each.name.startswith(("gateway_", "process_"))
        assert not each.name.endswith("_total")


def test_open_metrics_for_who_accepts_it(metrics: Metrics) -> None:
    metrics.connect_time.observe(0.3)
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    body, content_type = render(families(metrics, GAUGES, PROCESS), accept)
    assert content_type.startswith("application/openmetrics-text")
    found = {family.name: family.type for family in open_metrics(body.decode())}  # type: ignore[no-untyped-call]
    assert found == {each.name: each.kind for each in DEFINITIONS}
    assert render([])[1].startswith("text/plain")


def test_what_several_processes_tell_is_one_metric() -> None:
    one = Family("gateway_x", "counter", "Help", [("gateway_x_total", {"node": "a"}, 1)])
    two = Family("gateway_x", "counter", "Other words", [("gateway_x_total", {"node": "b"}, 2)])
    newer = Family("gateway_x", "gauge", "Of another release", [("gateway_x", {"node": "c"}, 3)])
    body, _ = render([one, two, newer])
    [family] = text_string_to_metric_families(body.decode())
    assert family.documentation == "Help"
    assert [(sample.labels["node"], sample.value) for sample in family.samples] == [("a", 1), ("b", 2)]


def test_the_page_has_all_of_them() -> None:
    assert table() in PAGE.read_text(), "write it anew: python -m tests.web.metrics_table"
