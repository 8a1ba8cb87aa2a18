"""A real nginx before a gateway, configured well or badly."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.test_deploy import program
from tests.ports import free_port
from tests.waiting import until_blocking

GOOD = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_set_header Host $http_host;
    proxy_buffering off;
"""

_CONFIG = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ }}
http {{
    access_log off; keepalive_timeout 0;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            {location}
        }}
    }}
}}
"""


@contextmanager
def nginx(directory: Path, backend: int, location: str = GOOD, *, answer: str = "") -> Iterator[int]:
    """Its port; ``answer`` is given in place of what the gateway on port ``backend`` answers."""
    port = free_port()
    passing = answer or f"proxy_pass http://127.0.0.1:{backend};"
    path = directory / "nginx.conf"
    path.write_text(_CONFIG.format(directory=directory, port=port, location=location + passing))
    process = subprocess.Popen([program("nginx", "nginx"), "-p", str(directory), "-c", str(path)])
    try:
        until_blocking(lambda: _listens(port), what="nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
