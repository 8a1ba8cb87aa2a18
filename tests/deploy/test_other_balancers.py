"""Envoy and Traefik, which Debian has not: their configurations are read by what there is, and not run.

Envoy's own types come as a Go module; of Traefik there is nothing but YAML.
"""

from typing import Any

import yaml

from tests.deploy.balancers import ROOT
from tests.deploy.golang import tool

ENVOY = ROOT / "deploy/envoy/envoy.yaml"
TRAEFIK = ROOT / "deploy/traefik"


def test_envoy_knows_what_its_configuration_says() -> None:
    checked = tool("check", "envoy", given=ENVOY.read_text())
    assert checked.returncode == 0, checked.stderr


def test_what_envoy_does_not_know_is_found() -> None:
    for right, wrong in (("connect_timeout", "connect_time"), ("port_value: 8080", "port_value: 80800")):
        checked = tool("check", "envoy", given=ENVOY.read_text().replace(right, wrong))
        assert checked.returncode == 1
        assert wrong.split(":")[0] in checked.stderr.lower().replace("portvalue", "port_value")


def test_envoy_offers_handshakes_alone_a_second_time() -> None:
    manager = yaml.safe_load(ENVOY.read_text())["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    retries = {each["match"].get("prefix"): each["route"]["retry_policy"] for each in host["routes"] if "route" in each}
    for opened in ("/connection/", "/app/"):
        assert 503 in retries[opened]["retriable_status_codes"]
    assert retries["/"]["retry_on"] == "connect-failure"


def test_traefiks_files_speak_of_the_same() -> None:
    start: dict[str, Any] = yaml.safe_load((TRAEFIK / "traefik.yml").read_text())
    http: dict[str, Any] = yaml.safe_load((TRAEFIK / "gateway.yml").read_text())["http"]
    for router in http["routers"].values():
        assert set(router["entryPoints"]) <= start["entryPoints"].keys()
        assert router["service"] in http["services"]
    (service,) = http["services"].values()
    assert service["loadBalancer"]["serversTransport"] in http["serversTransports"]
    assert service["loadBalancer"]["healthCheck"]["path"] == "/health/ready"
    assert "middlewares" not in http, "a retry would double publications"
