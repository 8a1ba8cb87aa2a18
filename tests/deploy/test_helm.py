"""The Helm chart: it is valid, and what it makes is what Kubernetes, Prometheus' operator and KEDA know.

Helm itself, and the types, come as Go modules (``kubernetes/go.mod``).
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.sources import load
from tests.deploy.balancers import ROOT
from tests.deploy.golang import tool

CHART = ROOT / "deploy/helm/gateway"
CASES = {"defaults": (), **{path.stem: ("--values", str(path)) for path in sorted((CHART / "ci").glob("*.yaml"))}}

Objects = dict[tuple[str, str], dict[str, Any]]
"""By kind and name."""


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    return tool("helm", *words, "--kube-version", "1.36.0")  # else it takes one of long ago for granted


def template(*words: str) -> str:
    result = helm("template", "live", str(CHART), "--namespace", "web", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def objects(text: str) -> Objects:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def settings(found: Objects) -> str:
    text = found["ConfigMap", "live-gateway"]["data"]["gateway.json"]
    assert isinstance(text, str)
    return text


def container(found: Objects) -> dict[str, Any]:
    (found_container,) = found["Deployment", "live-gateway"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found_container, dict)
    return found_container


@pytest.mark.parametrize("case", CASES)
def test_the_chart_is_valid_and_its_objects_are_known(case: str) -> None:
    lint = helm("lint", "--strict", str(CHART), *CASES[case])
    assert lint.returncode == 0, lint.stdout
    text = template(*CASES[case])
    checked = tool("check", "kubernetes", given=text)
    assert checked.returncode == 0, checked.stderr
    assert len(checked.stdout.splitlines()) == len(objects(text))


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    text = template().replace("minReadySeconds:", "minreadyseconds:")
    checked = tool("check", "kubernetes", given=text)
    assert checked.returncode == 1
    assert 'apps/v1 Deployment live-gateway: unknown field "spec.minreadyseconds"' in checked.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_settings_are_some(case: str, tmp_path: Path) -> None:
    found = objects(template(*CASES[case]))
    file = tmp_path / "gateway.json"
    file.write_text(settings(found))
    redis = {"GATEWAY_REDIS_URL": "redis://elsewhere:6379"} if case == "external" else {}
    shutdown = load(file, environ=redis).shutdown
    pod = found["Deployment", "live-gateway"]["spec"]["template"]["spec"]
    hook = container(found).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["time.sleep(0)"])
    before = int(hook[-1].rpartition("(")[2].rstrip(")"))
    assert pod["terminationGracePeriodSeconds"] == before + shutdown.grace + shutdown.drain_time + 30


def test_secrets_are_named_and_not_there() -> None:
    found = objects(template(*CASES["external"]))
    secrets = {
        each["name"]: each["valueFrom"]["secretKeyRef"]
        for each in container(found)["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    assert secrets == {
        "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": {"name": "gateway", "key": "token"},
        "GATEWAY_REDIS_URL": {"name": "gateway", "key": "redis"},
    }
    assert "Secret" not in {kind for kind, _ in found}
    assert ("Deployment", "live-gateway-redis") not in found


def test_pods_are_confined() -> None:
    for (kind, _), each in objects(template()).items():
        if kind == "Deployment":
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            for one in pod["containers"]:
                assert one["securityContext"]["readOnlyRootFilesystem"] is True
                assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                assert one["resources"]["requests"]["memory"] == one["resources"]["limits"]["memory"]


def test_the_ingress_is_the_controllers() -> None:
    nginx = objects(template(*CASES["all"]))["Ingress", "live-gateway"]
    assert nginx["spec"]["ingressClassName"] == "nginx"
    annotations = {key.rpartition("/")[2]: value for key, value in nginx["metadata"]["annotations"].items()}
    assert annotations["proxy-read-timeout"] == "100", "ours yields"
    assert annotations["proxy-next-upstream"] == "error timeout http_503"
    traefik = objects(template(*CASES["external"]))["Ingress", "live-gateway"]
    assert traefik["spec"]["ingressClassName"] == "traefik"
    assert [each["path"] for each in traefik["spec"]["rules"][0]["http"]["paths"]] == ["/connection", "/emulation"]


def test_the_autoscaler_has_the_number_of_pods_to_itself() -> None:
    assert objects(template())["Deployment", "live-gateway"]["spec"]["replicas"] == 3
    for case in ("all", "external"):
        assert "replicas" not in objects(template(*CASES[case]))["Deployment", "live-gateway"]["spec"]


def test_a_change_of_settings_makes_new_pods() -> None:
    def checksum(*words: str) -> str:
        pod = objects(template(*words))["Deployment", "live-gateway"]["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum()
    assert checksum() != checksum("--set", "config.client.ping_interval=20s")


def test_dashboards_and_alerts_are_the_projects_own() -> None:
    found = objects(template(*CASES["all"]))
    made = {name for kind, name in found if kind == "ConfigMap" and "-dashboard-" in name}
    files = sorted((ROOT / "deploy/grafana").glob("*.json"))
    assert made == {f"live-gateway-dashboard-{path.stem.lower()}" for path in files}
    for path in files:
        (text,) = found["ConfigMap", f"live-gateway-dashboard-{path.stem.lower()}"]["data"].values()
        assert json.loads(text) == json.loads(path.read_text())
    alerts = ROOT / "deploy/prometheus/alerts.yml"
    groups = yaml.safe_load(alerts.read_text())["groups"] if alerts.exists() else []
    assert found["PrometheusRule", "live-gateway"]["spec"]["groups"] == groups


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--set", "replica=3"), "replica"),
        (("--set", "autoscaling.kind=vpa"), "autoscaling"),
        (("--set", "trustedProxies={*}"), "trustedProxies"),
        (("--set", "redis.bundled=false"), "no Redis: set redis.bundled=true, redis.url, or secrets.redisUrl.name"),
        (("--set", "ingress.enabled=true"), "ingress.host is needed, for example ws.example.com"),
    ],
)
def test_values_that_mean_nothing_are_refused(words: tuple[str, ...], text: str) -> None:
    result = helm("template", "live", str(CHART), *words)
    assert result.returncode != 0
    assert text in result.stderr
