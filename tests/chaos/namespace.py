"""A network namespace for one node: its way to Redis can vanish without a word, as behind a switch that died.

Needs root. The node has two addresses, one for clients and one for Redis. A partition is a route on the other side,
by which everything for the second is thrown away: no RST, no error, to neither end.
"""

import atexit
import os
import subprocess
from typing import Self

NUMBER = os.getpid() % 250


def possible() -> bool:
    """Whether this process may make namespaces."""
    return os.geteuid() == 0 and _run("ip", "netns", "list") == 0


class Namespace:
    def __init__(self) -> None:
        self.name = f"chaos{NUMBER}"
        self._network = f"10.{200 + NUMBER // 64}.{NUMBER % 64 * 4}"
        self._redis_network = f"10.{200 + NUMBER // 64}.{NUMBER % 64 * 4 + 1}"
        self._cut = False

    @property
    def host(self) -> str:
        """Where the node listens."""
        return f"{self._network}.2"

    @property
    def redis_host(self) -> str:
        """Where Redis has to listen, beside loopback."""
        return f"{self._redis_network}.1"

    @property
    def prefix(self) -> list[str]:
        """Words before a command that is to run in it."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        atexit.register(self.remove)
        near, far = f"{self.name}a", f"{self.name}b"
        inside = ("ip", "-n", self.name)
        try:
            _must("ip", "netns", "add", self.name)
            _must("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            for network in (self._network, self._redis_network):
                _must("ip", "address", "add", f"{network}.1/24", "dev", near)
                _must(*inside, "address", "add", f"{network}.2/24", "dev", far)
            _must("ip", "link", "set", near, "up")
            _must(*inside, "link", "set", far, "up")
            _must(*inside, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
        atexit.unregister(self.remove)

    def part(self) -> None:
        """From now on nothing that Redis sends arrives."""
        self._cut = True
        _must("ip", "route", "add", "blackhole", f"{self._redis_network}.2/32")

    def heal(self) -> None:
        self._cut = False
        _must("ip", "route", "del", "blackhole", f"{self._redis_network}.2/32")

    def remove(self) -> None:
        if self._cut:
            _run("ip", "route", "del", "blackhole", f"{self._redis_network}.2/32")
            self._cut = False
        _run("ip", "link", "del", f"{self.name}a")
        _run("ip", "netns", "del", self.name)


def _must(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode
