"""HAProxy as docker-compose.yml runs it: process 1 of its container, which hears no signal that it does not handle."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import yaml

from tests.deploy.balancers import ROOT, haproxy_config
from tests.deploy.test_deploy import program
from tests.ports import free_port
from tests.waiting import until_blocking


def test_it_ends_at_once(tmp_path: Path) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["haproxy"]
    config = tmp_path / "haproxy.cfg"
    config.write_text(haproxy_config(free_port(), [("127.0.0.1", free_port())]))
    haproxy = [program("haproxy", "haproxy"), *service["command"][1:-1], str(config)]
    # as root of a namespace of users, if not root anyway
    unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen([*unshare, *haproxy], stdout=output, stderr=output) as outside:
        try:
            until_blocking(lambda: "Loading success" in log.read_text(), what="HAProxy is there")
            (inside,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
            number = getattr(signal, service["stop_signal"])

            def ended() -> bool:
                """Asked again each time: while the master starts itself anew it hears nothing."""
                with suppress(ProcessLookupError):
                    os.kill(int(inside), number)
                return outside.poll() is not None

            until_blocking(ended, what="HAProxy has ended")
        finally:
            outside.send_signal(signal.SIGKILL)
