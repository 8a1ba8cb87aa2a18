"""Where a client comes from: by its own connection, or as a proxy in front tells it that is believed."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from gateway.recurring import Address

HEADER = b"x-forwarded-for"


class Proxies:
    """Those whose X-Forwarded-For is believed, as ``http_server.forwarded_allow_ips`` lists them, ``*`` for all."""

    def __init__(self, listed: str) -> None:
        names = [name for each in listed.split(",") if (name := each.strip())]
        self._all = "*" in names
        self._names = frozenset(names)
        self._networks = [ip_network(name, strict=False) for name in names if "/" in name and _is_network(name)]

    def trusts(self, host: str) -> bool:
        if self._all or host in self._names:
            return True
        return bool(self._networks) and _is_address(host) and any(ip_address(host) in each for each in self._networks)

    def client(self, host: str, forwarded: str) -> str:
        """Who has connected to the first proxy that is believed, seen from here: what is before that may be made up."""
        if not self.trusts(host):
            return host
        for each in reversed(forwarded.split(",")):
            if not _is_address(named := each.strip()):
                break
            host = named
            if not self.trusts(host):
                break
        return host


@lru_cache(8)
def proxies(listed: str) -> Proxies:
    return Proxies(listed)


def address_of(scope: Mapping[str, Any]) -> Address:
    """The address in a scope, empty where it has none, as for a Unix socket."""
    client = scope.get("client")
    return Address(client[0] if client else "")


def _is_network(name: str) -> bool:
    try:
        ip_network(name, strict=False)
    except ValueError:
        return False
    return True


def _is_address(name: str) -> bool:
    try:
        inet_pton(AF_INET6 if ":" in name else AF_INET, name)  # a tenth of what ip_address takes
    except (OSError, ValueError):
        return False
    return True
