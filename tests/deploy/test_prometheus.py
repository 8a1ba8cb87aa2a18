"""Alerts, dashboard and scrape example: they know only metrics that exist, and alerts come when they should."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from gateway.web.exposition import DEFINITIONS
from tests.deploy.balancers import ROOT
from tests.deploy.test_deploy import program, run
from tests.web.metrics_table import METRICS

PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/gateway.json"
PAGE = ROOT / "docs/operate.md"

HISTOGRAM = ("_bucket", "_count", "_sum")
EXISTING = {
    each.exposed + part: {*each.labels, *(["le"] if part == "_bucket" else [])}
    for each in METRICS
    for part in (HISTOGRAM if each.kind == "histogram" else ("",))
}
"""The names of all series, and the labels that they have besides those of every one."""
SCRAPED = {"job", "instance", "node"}


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """All expressions of the dashboard, by panel."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def expressions() -> list[Any]:
    found = [(rule["alert"], rule["expr"]) for rule in alerts()] + list(queries())
    return [pytest.param(expression, id=name) for name, expression in found]


@pytest.mark.parametrize("expression", expressions())
def test_only_metrics_and_labels_that_exist(expression: str) -> None:
    names = set(re.findall(r"\b(?:gateway|process)_\w+", re.sub(r'"[^"]*"', "", expression)))
    assert names <= EXISTING.keys(), names - EXISTING.keys()
    known = SCRAPED.union(*(EXISTING[name] for name in names))
    lists = re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expression)
    named = {label.strip() for each in lists for label in each.split(",")}
    named |= set(re.findall(r'(\w+) ?(?:=|!)~?"', expression))
    assert named <= known, named - known


def test_the_dashboard_shows_nearly_everything() -> None:
    shown = " ".join(expression for _, expression in queries())
    missing = {name for name in EXISTING if not re.search(rf"\b{name}\b", shown)}
    left_out = {each.exposed + part for each in DEFINITIONS if each.kind == "histogram" for part in HISTOGRAM}
    assert missing - left_out == {"gateway_waiting_bytes", "gateway_namespace_publications_out_total"}


def test_the_dashboard_is_in_order() -> None:
    """As far as can be seen without Grafana."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"} <= dashboard.keys()
    assert [each["name"] for each in dashboard["templating"]["list"]] == ["datasource", "instance"]
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"]), panel["title"]


def test_grafana_knows_every_field() -> None:
    """What its own model of a dashboard does not know would be lost on the way through it."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    ours = json.loads(DASHBOARD.read_text())
    theirs = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
    assert lost(ours, theirs) == []


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where something of ours is not in theirs, or is something else."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [each for key in ours for each in lost(ours[key], theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(ours, theirs, strict=True)
        return [each for number, pair in enumerate(pairs) for each in lost(*pair, f"{path}[{number}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} → {theirs!r}"]


def test_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus reads each of the dashboard, with what Grafana puts in for its variables."""
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$instance", ".*").replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(program("promtool", "prometheus"), "check", "rules", str(file))


def test_prometheus_takes_the_files() -> None:
    promtool = program("promtool", "prometheus")
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", str(ALERTS))
    assert "SUCCESS" in run(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_each_alert_has_its_section() -> None:
    section = PAGE.read_text().split("\n## Alerts\n")[1].split("\n## ")[0]
    sections = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert sections == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/operate.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


# — when they come —


class Case(NamedTuple):
    """Series at which an alert comes, and others at which none does; a value for each minute."""

    fires: dict[str, str]
    calm: dict[str, str]
    after: int = 20
    """Minutes after which is looked."""


def one(name: str, fires: str, calm: str, after: int = 20, **labels: str) -> Case:
    series = name + "{" + ", ".join(f'{key}="{value}"' for key, value in {"instance": "a", **labels}.items()) + "}"
    return Case({series: fires}, {series: calm}, after)


def late(name: str, bound: str, beyond: str, **labels: str) -> Case:
    """A histogram of which a hundredth and more lies beyond a bound."""
    told = "".join(f', {key}="{value}"' for key, value in labels.items())
    low, high, all_ = (f'{name}_bucket{{instance="a"{told}, le="{le}"}}' for le in (bound, beyond, "+Inf"))
    calm = dict.fromkeys((low, high, all_), "0+100x30")
    return Case({low: "0+95x30", high: "0+100x30", all_: "0+100x30"}, calm)


def born(count: int) -> dict[str, str]:
    """So many workers one after another, of a host that is to have two."""
    nodes = {f'gateway_build_info{{instance="a", node="{n}", version="1"}}': f"_x{n} 1 1 stale" for n in range(count)}
    return {'gateway_workers{instance="a"}': "2x30", **nodes}


CONNECTIONS, SLOW = 'gateway_connections{instance="a", node="n"}', 'gateway_slow_clients{instance="a", node="n"}'
GONE = 'gateway_disconnects_total{instance="a", code="3012"}'
RECOVERED, NOT_RECOVERED = (
    f'gateway_recoveries_total{{instance="a", recovered="{each}"}}' for each in ("true", "false")
)
BUILD = 'gateway_build_info{instance="a", node="n", version="1"}'
OPEN, MOST, MEMORY = (
    f'process_{each}{{instance="a", node="n"}}' for each in ("open_fds", "max_fds", "resident_memory_bytes")
)

CASES = {
    "GatewayDown": one("up", "0x30", "1x30", job="gateway"),
    "GatewayConnectionsLost": one("gateway_connections", "1000x14 400x10", "1000x14 600x10", 18),
    "GatewayWorkersRestart": Case(born(9), born(5), 11),
    "GatewayWorkerSilent": one("gateway_workers_silent", "1x30", "0x30"),
    "GatewayDrainsTooLong": one("gateway_draining", "1x30", "0x9 1x30", 15, node="n"),
    "GatewayWarns": one("gateway_warnings", "2x30", "0x30"),
    "GatewayVersionsDiffer": Case(
        {BUILD: "1x90", BUILD.replace('version="1"', 'version="2"'): "1x90"},
        {BUILD: "1x90", BUILD.replace('version="1"', 'version="2"'): "1x30 stale"},
        80,
    ),
    "GatewayNodesDisagree": Case(
        {'gateway_nodes{instance="a"}': "3x30", 'gateway_nodes{instance="b"}': "2x30"},
        {'gateway_nodes{instance="a"}': "3x30", 'gateway_nodes{instance="b"}': "3x30"},
    ),
    "GatewayBrokerAway": one("gateway_broker_connected", "0x30", "1x30"),
    "GatewayBrokerRefuses": one("gateway_broker_errors_total", "0+1x30", "5x30", kind="OOM"),
    "GatewayBrokerReconnects": one("gateway_broker_reconnects_total", "0+1x30", "0+0.2x30"),
    "GatewayPublicationsFail": one("gateway_failed_publications_total", "0+1x30", "7x30", stored="maybe"),
    "GatewayPublicationsWait": one("gateway_waiting_publications", "2000x30", "500x30"),
    "GatewayDeliveryLate": late("gateway_delivery_lag_seconds", "1.0", "2.5"),
    "GatewayLoopLate": late("gateway_loop_lag_seconds", "0.25", "0.5", node="n"),
    "GatewayPositionsLost": one("gateway_lost_positions_total", "0+120x30", "0+30x30"),
    "GatewayRecoveriesFail": Case(
        {NOT_RECOVERED: "0+10x30", RECOVERED: "0+20x30"}, {NOT_RECOVERED: "0+1x30", RECOVERED: "0+100x30"}
    ),
    "GatewayRefusesConnections": Case(
        {'gateway_refused_connections_total{instance="a", reason="origin"}': "0+120x30"},
        {
            'gateway_refused_connections_total{instance="a", reason="draining"}': "0+120x30",
            'gateway_refused_connections_total{instance="a", reason="origin"}': "0+30x30",
        },
    ),
    "GatewayClientsSlow": Case({CONNECTIONS: "1000x30", SLOW: "60x30"}, {CONNECTIONS: "1000x30", SLOW: "40x30"}),
    "GatewayClientsGone": Case({CONNECTIONS: "1000x30", GONE: "0+120x30"}, {CONNECTIONS: "9000x30", GONE: "0+120x30"}),
    "GatewayErrors": one("gateway_errors_total", "0+60x30", "0+3x30", code="100"),
    "GatewayAPIErrors": one("gateway_api_errors_total", "0+60x30", "0+3x30", code="100", method="publish"),
    "GatewayHandlersSlow": late("gateway_handler_seconds", "1.0", "2.5", event="on_connect"),
    "GatewaySkipsMessages": one("gateway_skipped_messages_total", "0+1x30", "3x30", kind="control"),
    "GatewayWebhooksFail": one("gateway_webhooks_failing", "1x30", "0x30"),
    "GatewayWebhookEventsLost": one("gateway_webhook_events_total", "0+1x30", "3x30", outcome="lost"),
    "GatewayFilesRunOut": Case({OPEN: "900x30", MOST: "1000x30", BUILD: "1x30"}, {OPEN: "900x30", MOST: "1000x30"}),
    "GatewayMemory": Case(  # before what docker-compose.yml and the chart give a gateway is used up
        {MEMORY: f"{512 << 20}x70", CONNECTIONS: "10000x70"}, {MEMORY: "4e8x70", CONNECTIONS: "10000x70"}, 60
    ),
}


def test_every_alert_has_a_case() -> None:
    assert list(CASES) == [rule["alert"] for rule in alerts()]


def test_alerts_come_when_they_should_and_alone(tmp_path: Path) -> None:
    tests = [
        {
            "name": f"{name}, {'fires' if expected else 'calm'}",
            "interval": "1m",
            "input_series": [{"series": each, "values": values} for each, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{case.after}m",
                    "exp_samples": expected,
                }
            ],
        }
        for name, case in CASES.items()
        for series, expected in (
            (case.fires, [{"labels": f'{{alertname="{name}"}}', "value": 1}]),
            (case.calm, []),
        )
    ]
    file = tmp_path / "alerts.test.yml"
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(document))
    run(program("promtool", "prometheus"), "test", "rules", str(file))
