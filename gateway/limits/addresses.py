"""Where a client is, for limits: behind which proxies, and what counts as one address.

Source: RFC 7239, section 7.4, for what of a chain of proxies can be believed; RFC 4291, section 2.5.4, for the /64.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from gateway.recurring import Address

KNOWN = 4096
"""Addresses of which it is kept what they are, for whoever comes again."""

UNIX = "unix"
"""What our server calls the peer of a Unix socket."""

Host = IPv4Address | IPv6Address


class Network(NamedTuple):
    """What counts as one address."""

    name: str = ""
    """Of an IPv6 address its first 64 bits, since whoever has one has all of them; empty if nothing is known."""
    public: bool = False
    """Whether it is of the public Internet: a proxy of ours, a colleague or a test is not."""


NOWHERE = Network()
"""A client of which the server does not tell where it is."""


@lru_cache(KNOWN)
def network_of(host: str) -> Network:
    """The network of an address; another word, such as a test client's, is one by itself."""
    address = read_address(host)
    if address is None:
        return Network(host[:255])
    if isinstance(address, IPv6Address):
        return Network(f"{IPv6Address(int(address) >> 64 << 64)}/64", address.is_global)
    return Network(str(address), address.is_global)


class Peer(NamedTuple):
    """Who is at the other end, of whom nothing but the address is known."""

    address: Address
    network: Network
    trusted: bool
    """Whether what it forwards is believed."""


class Proxies:
    """The proxies whose X-Forwarded-For is believed, as http_server.forwarded_allow_ips has them."""

    def __init__(self, trusted: str) -> None:
        words = [word for each in trusted.split(",") if (word := each.strip())]
        self._all = "*" in words
        self._words = frozenset(words)
        self._networks: list[IPv4Network | IPv6Network] = []
        for word in words:
            try:
                self._networks.append(ip_network(word, strict=False))
            except ValueError:
                continue  # "*", or the name that a server has for a Unix socket's peer
        self._trusts = lru_cache(KNOWN)(self._look_up)
        self.peer = lru_cache(KNOWN)(self._peer)
        """Of an address, which is asked for each connection."""

    def trusts(self, host: str) -> bool:
        """Whether what this peer says is believed, as is whoever comes by a Unix socket, which only we open."""
        return self._all or host == UNIX or self._trusts(host)

    def ignores(self, scope: Mapping[str, Any]) -> bool:
        """Whether a peer says whom it stands for, and is not believed.

        A client whom a proxy has told the server of, and the server the scope, has port 0.
        """
        peer, port = scope.get("client") or ("", 0)
        return bool(port) and not self.trusts(peer) and bool(forwarded_for(scope["headers"]))

    def client(self, scope: Mapping[str, Any]) -> str:
        """The address of who is at the other end, by an ASGI scope (``client``, ``headers``).

        Of X-Forwarded-For the rightmost entry that no trusted proxy stands for: each proxy appends whom it has seen,
        and what stands before that anybody may have written. Where all are trusted, it is the first of these.
        """
        believed = _peer(scope)
        if not self.trusts(believed):
            return believed
        for entry in reversed(forwarded_for(scope["headers"])):
            address = read_address(_without_port(entry))
            if address is None:
                break  # who wrote this has hidden the rest
            believed = str(address)
            if self._all or not self.trusts(believed):
                break
        return believed

    def _peer(self, host: str) -> Peer:
        return Peer(Address(host), network_of(host), self.trusts(host))

    def _look_up(self, host: str) -> bool:
        address = read_address(host)
        if address is None:
            return host in self._words
        return any(address in network for network in self._networks)


def _peer(scope: Mapping[str, Any]) -> str:
    """Who has connected. Nobody knows of a connection that is reset already: it is no proxy's, whatever it has sent."""
    if client := scope.get("client"):
        return str(client[0])
    _, port = scope.get("server") or ("", 0)
    return UNIX if port is None else ""  # as ASGI tells of a Unix socket


def forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """What X-Forwarded-For says, over all its lines."""
    lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [entry.strip() for entry in ",".join(lines).split(",")] if lines else []


def read_address(host: str) -> Host | None:
    """An address; one of IPv4 in an IPv6 one is that of IPv4. None for what is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _without_port(entry: str) -> str:
    """``1.2.3.4:567`` and ``[2001:db8::1]:567``, as some proxies write, without the port."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
