"""The deployed balancer configurations, fitted to run on loopback.

Only what names a machine is replaced: addresses, backends, log and process files. What is tested is what is deployed.
"""

import re
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HAPROXY = ROOT / "deploy/haproxy/haproxy.cfg"
NGINX = ROOT / "deploy/nginx/nginx.conf"
CADDY = ROOT / "deploy/caddy/Caddyfile"

Backends = Sequence[tuple[str, int]]


def haproxy_config(listen_port: int, backends: Backends) -> str:
    """The HAProxy configuration on a port of loopback; run it with ``haproxy -db -f FILE``."""
    servers = "\n".join(f"    server gateway{index} {host}:{port}" for index, (host, port) in enumerate(backends, 1))
    text = HAPROXY.read_text()
    text = _replace(r"^    bind :8080$", f"    bind 127.0.0.1:{listen_port}", text)
    text = _replace(r"^    server-template gateway .*$", servers, text, times=3)
    return _replace(r"^resolvers docker\n(?:    .*\n)+", "", text)


def nginx_config(listen_port: int, backends: Backends, directory: Path) -> str:
    """The nginx configuration on a port of loopback; run it with ``nginx -c FILE -g 'daemon off;'``.

    All its files are in ``directory``: ``nginx.pid``, ``access.log``, ``error.log`` and the temporary ones.
    """
    servers = "\n".join(f"        server {host}:{port} max_fails=2 fail_timeout=5s;" for host, port in backends)
    temporary = "\n".join(
        f"    {kind}_temp_path {directory / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = NGINX.read_text()
    text = _replace(r"^        listen 8080;$", f"        listen 127.0.0.1:{listen_port};", text)
    text = _replace(r"^(?:        server 127\.0\.0\.1:\d+ .*\n)+", servers + "\n", text)
    text = _replace(r"^pid .*;$", f"pid {directory / 'nginx.pid'};", text)
    text = _replace(r"^error_log \S+", f"error_log {directory / 'error.log'}", text)
    text = _replace(r"^    access_log \S+", f"    access_log {directory / 'access.log'}", text)
    return _replace(r"^http \{$", "http {\n" + temporary, text)


def caddy_config(listen_port: int, backends: Backends) -> str:
    """Caddy's configuration on a port of loopback; run it with ``caddy run --config FILE --adapter caddyfile``."""
    servers = " ".join(f"{host}:{port}" for host, port in backends)
    text = CADDY.read_text()
    text = _replace(r"^:8080 \{$", f"http://127.0.0.1:{listen_port} {{\n\tbind 127.0.0.1", text)
    return _replace(r"^\treverse_proxy 127\.0\.0\.1:.* \{$", f"\treverse_proxy {servers} {{", text)


def _replace(pattern: str, replacement: str, text: str, times: int = 1) -> str:
    """Replace what must stand in the text so many times."""
    text, count = re.subn(pattern, lambda _: replacement, text, flags=re.MULTILINE)
    if count != times:
        raise ValueError(
            f"{pattern!r} was found {count} times, not {times}: the configuration in deploy/ has changed shape"
        )
    return text
