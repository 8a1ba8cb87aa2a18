"""What is deployed is valid: compose file, balancers, settings, image."""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.settings import Namespace, Settings
from gateway.config.sources import load
from gateway.version import __version__
from tests.deploy.balancers import CADDY, HAPROXY, NGINX, ROOT, caddy_config, haproxy_config, nginx_config

BACKENDS = [("127.0.0.1", 9001), ("127.0.0.1", 9002), ("127.0.0.1", 9003)]


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where servers are, also for users


def program(name: str, package: str) -> str:
    """Where a program is; without it the test fails and names the package."""
    path = shutil.which(name, path=PATH)
    assert path, f"{name} is needed: apt-get install {package}"
    return path


def run(*command: str, environ: dict[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def compose(**environ: str) -> dict[str, Any]:
    """The compose file as Compose understands it."""
    if shutil.which("docker-compose", path=PATH):
        command = ["docker-compose"]
    else:  # the second version is a plug-in
        command = [program("docker", "docker-compose"), "compose"]
    command += ["-f", str(ROOT / "docker-compose.yml"), "config"]
    document = yaml.safe_load(run(*command, environ={"PATH": PATH, "HOME": str(Path.home()), **environ}))
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = compose()["services"]
    assert isinstance(found, dict)
    return found


def dockerfile() -> list[str]:
    """The instructions of the image's last stage, continued lines joined."""
    lines = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    start = max(index for index, line in enumerate(lines) if line.startswith("FROM "))
    return [line for line in lines[start:] if line and not line.startswith("#")]


def instruction(name: str) -> str:
    (found,) = (line for line in dockerfile() if line.startswith(name + " "))
    return found.removeprefix(name).strip()


# — the compose file —


def test_three_services_that_scale(services: dict[str, Any]) -> None:
    assert set(services) == {"haproxy", "gateway", "redis"}
    assert all("container_name" not in service for service in services.values())


def test_only_the_balancer_is_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(ports) == ["haproxy"]
    (port,) = ports["haproxy"]
    if isinstance(port, dict):  # Compose v2
        port = f"{port['host_ip']}:{port['published']}:{port['target']}"
    assert port.removesuffix("/tcp") == "127.0.0.1:8080:8080"


def test_redis_is_out_of_the_balancers_reach(services: dict[str, Any]) -> None:
    assert set(services["haproxy"]["networks"]) == {"edge"}
    assert set(services["redis"]["networks"]) == {"data"}
    assert compose()["networks"]["data"]["internal"] is True


@pytest.mark.parametrize("name", ["haproxy", "gateway", "redis"])
def test_each_container_is_confined(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    user = instruction("USER") if name == "gateway" else service["user"]
    assert int(user.split(":")[0]) > 0
    assert name == "gateway" or "healthcheck" in service  # the gateway's is in its image


@pytest.mark.parametrize("name", ["haproxy", "gateway", "redis"])
def test_no_container_takes_all_the_memory(services: dict[str, Any], name: str) -> None:
    assert services[name]["mem_limit"]


def test_gateways_have_time_to_stop(services: dict[str, Any]) -> None:
    shutdown = Settings().shutdown
    text = services["gateway"]["stop_grace_period"]
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups(default="0")  # type: ignore[union-attr]
    assert int(minutes) * 60 + int(seconds) >= shutdown.grace + shutdown.drain_time + 30


def test_files_that_containers_mount_exist(services: dict[str, Any]) -> None:
    mounts = [mount for service in services.values() for mount in service["volumes"]]
    paths = [mount["source"] if isinstance(mount, dict) else mount.split(":")[0] for mount in mounts]
    assert len(paths) == 3
    assert all(Path(path).is_file() for path in paths)


def test_variables_reach_the_containers() -> None:
    document = compose(
        GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY="one",
        GATEWAY_HTTP_API__KEY="two",
        EDGE_SUBNET="10.9.8.0/24",
        PUBLIC_PORT="9999",
    )
    environment = document["services"]["gateway"]["environment"]
    assert environment["GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY"] == "one"
    assert environment["GATEWAY_HTTP_API__KEY"] == "two"
    assert environment["GATEWAY_HTTP_SERVER__FORWARDED_ALLOW_IPS"] == "10.9.8.0/24"
    assert document["networks"]["edge"]["ipam"]["config"] == [{"subnet": "10.9.8.0/24"}]
    assert "9999" in str(document["services"]["haproxy"]["ports"])


# — the gateway's settings —


@pytest.fixture(scope="module")
def settings(services: dict[str, Any]) -> Settings:
    """What a gateway in its container sees: the file, and the environment of image and compose file."""
    image = dict(item.split("=", 1) for item in instruction("ENV").split())
    return load(ROOT / "deploy/gateway.toml", environ={**image, **services["gateway"]["environment"]})


def test_settings_of_the_demo(settings: Settings) -> None:
    assert settings.engine.type == "redis"
    assert settings.engine.redis.address == "redis://redis:6379"
    assert settings.http_server.address == "0.0.0.0"
    assert settings.http_server.port == 8000
    assert settings.demo.enabled


def test_nobody_comes_in_without_a_secret_that_asks_to_be_changed(settings: Settings) -> None:
    assert settings.client.token.hmac_secret_key.startswith("change-me")
    assert settings.http_api.key.startswith("change-me")
    assert not settings.client.insecure
    assert not settings.http_api.insecure
    assert not settings.client.allow_anonymous_connect_without_token


def test_only_the_compose_network_is_trusted_to_name_clients(settings: Settings, services: dict[str, Any]) -> None:
    subnets = [config["subnet"] for config in compose()["networks"]["edge"]["ipam"]["config"]]
    assert settings.http_server.forwarded_allow_ips.split(",") == subnets
    assert "*" not in settings.client.allowed_origins


def test_rooms_recover_and_show_who_is_there(settings: Settings) -> None:
    assert settings.channel.namespaces == (
        Namespace(
            name="room",
            presence=True,
            join_leave=True,
            force_push_join_leave=True,
            history_size=100,
            history_ttl=600,
            force_recovery=True,
            allow_subscribe_for_client=True,
            allow_publish_for_subscriber=True,
            allow_presence_for_subscriber=True,
            allow_history_for_subscriber=True,
        ),
    )


# — the balancers —


def test_haproxy_accepts_its_configuration() -> None:
    output = run(program("haproxy", "haproxy"), "-c", "-f", str(HAPROXY))
    assert "WARNING" not in output
    assert "ALERT" not in output


def test_haproxy_accepts_its_configuration_on_loopback(tmp_path: Path) -> None:
    text = haproxy_config(18080, BACKENDS)
    assert "    bind 127.0.0.1:18080\n" in text
    assert "    server gateway3 127.0.0.1:9003\n" in text
    assert "server-template" not in text
    assert "resolvers" not in text
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    run(program("haproxy", "haproxy"), "-c", "-f", str(path))


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = nginx_config(port, BACKENDS, tmp_path)
    assert f"listen 127.0.0.1:{port};" in text
    assert text.count("server 127.0.0.1:900") == 3
    assert "127.0.0.1:800" not in text
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    output = run(program("nginx", "nginx"), "-t", "-e", str(tmp_path / "error.log"), "-c", str(path))
    assert "[warn]" not in output


def test_caddy_accepts_its_configuration(tmp_path: Path) -> None:
    text = caddy_config(18080, BACKENDS)
    assert "http://127.0.0.1:18080 {" in text
    assert "reverse_proxy 127.0.0.1:9001 127.0.0.1:9002 127.0.0.1:9003 {" in text
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    caddy, homes = program("caddy", "caddy"), {"PATH": PATH, "HOME": str(tmp_path)}
    for file in (CADDY, path):
        run(caddy, "validate", "--config", str(file), "--adapter", "caddyfile", environ=homes)
    assert "input is not formatted" not in run(
        caddy, "validate", "--config", str(CADDY), "--adapter", "caddyfile", environ=homes
    )


@pytest.mark.parametrize(("path", "line"), [(HAPROXY, "    bind :8080\n"), (NGINX, "        listen 8080;\n")])
def test_a_changed_shape_is_noticed(path: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / path.name
    changed.write_text(path.read_text().replace(line, ""))
    monkeypatch.setattr("tests.deploy.balancers." + ("HAPROXY" if path == HAPROXY else "NGINX"), changed)
    with pytest.raises(ValueError, match="found 0 times"):
        haproxy_config(18080, BACKENDS) if path == HAPROXY else nginx_config(18080, BACKENDS, tmp_path)


def test_timeouts_outlast_pings_in_both_balancers(settings: Settings) -> None:
    haproxy = dict(line.split()[1:] for line in HAPROXY.read_text().splitlines() if line.startswith("    timeout "))
    assert haproxy["tunnel"] == haproxy["client"] == haproxy["server"] == "75s"
    for directive in ("proxy_read_timeout", "proxy_send_timeout", "send_timeout"):
        assert f" {directive} 75s;" in NGINX.read_text()
    assert settings.client.ping_interval + settings.client.pong_timeout < 75


# — the image —


def test_the_image_says_which_version_it_is() -> None:
    assert f"ARG VERSION={__version__}" in dockerfile()
    assert 'org.opencontainers.image.version="${VERSION}"' in instruction("LABEL")


def test_the_image_runs_as_nobody_special() -> None:
    assert instruction("USER") == "1000:1000"


def test_the_image_starts_the_gateway_without_a_shell() -> None:
    """A shell as process 1 would swallow SIGTERM, and nothing would drain."""
    assert json.loads(instruction("CMD")) == ["gateway", "serve"]


def test_the_image_checks_its_own_health() -> None:
    options, _, command = instruction("HEALTHCHECK").partition(" CMD ")
    assert "--interval=" in options
    python, flag, code = json.loads(command)
    assert (python, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert "/health/live" in code


def test_only_what_the_image_needs_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "*",
        "!pyproject.toml",
        "!README.md",
        "!LICENSE",
        "!gateway",
        "!deploy/requirements*.txt",
        "!deploy/sbom",
        "!deploy/slim",
        "**/__pycache__",
    ]
