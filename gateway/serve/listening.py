"""Where the gateway listens: binding its sockets, and telling the places."""

import errno
import logging
import socket
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from gateway.config.places import Place, authority, reachable
from gateway.config.settings import HTTPServerSettings, Settings
from gateway.serve.errors import ServeError
from gateway.serve.systemd import notify, passed_sockets
from gateway.serve.unix_socket import UnixSocket

__all__ = ["Listener", "Listeners", "ServeError", "announce", "bind", "bind_beside", "reachable"]

USER_TIMEOUT = 30_000
"""Milliseconds after which the kernel gives up a peer that acknowledges nothing; by default 15 minutes."""

_ALL = ("0.0.0.0", "::")  # noqa: S104
_LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

log = logging.getLogger("gateway.serve.listening")


class Listener(NamedTuple):
    """A listening socket, and what is served there."""

    sock: socket.socket
    internal: bool = False
    """Whether operators are served there, apart from clients."""
    worker: int | None = None
    """Number of the worker whose own it is; None for one that all share."""

    @property
    def is_unix(self) -> bool:
        return self.sock.family == socket.AF_UNIX


class Listeners(AbstractContextManager["Listeners"]):
    """All sockets on which a gateway listens, until its end.

    For each of several workers a port has a socket of its own, so that the kernel spreads connections. A Unix socket,
    and what systemd has opened, cannot be had twice, so that all workers accept there. Raises `ServeError`.
    """

    def __init__(self, http: HTTPServerSettings) -> None:
        self.all: list[Listener] = []
        self.workers = 0
        """For how many there are sockets."""
        self._shared = http.workers > 1
        self._unix: list[UnixSocket] = []
        try:
            self._open(http)
            self.widen(http.workers)
        except BaseException:
            self.close()
            raise

    def widen(self, workers: int) -> None:
        """See that there are sockets for each worker. There may be more: one that is closed loses its queue."""
        first = [listener for listener in self.all if listener.worker == 0]
        for number in range(max(self.workers, 1), workers):
            for each in first:
                self.all.append(Listener(bind_beside(each.sock), each.internal, number))
        self.workers = max(self.workers, workers)

    def __exit__(self, *_: object) -> None:
        self.close()

    def give_up(self) -> None:
        """Leave the sockets to other processes that have them."""
        for listener in self.all:
            listener.sock.close()

    def close(self) -> None:
        self.give_up()
        for unix in self._unix:
            unix.remove()

    def _open(self, http: HTTPServerSettings) -> None:
        for sock, name in passed_sockets():
            self.all.append(Listener(sock, name == "internal"))
        if self.all:
            log.info("systemd has opened the sockets; http_server.address and port are not used where it has")
        for internal, places in ((False, http.places), (True, http.internal_places)):
            if any(listener.internal is internal for listener in self.all):
                continue
            for place in places:
                self._add(place, internal, int(http.unix_socket_mode, 8))

    def _add(self, place: Place, internal: bool, mode: int) -> None:
        if place.path:
            unix = UnixSocket(place.path, mode)
            self._unix.append(unix)
            self.all.append(Listener(unix.sock, internal))
        else:
            taken = {listener.sock.getsockname()[:2] for listener in self.all if not listener.is_unix}
            for sock in bind_all(place, shared=self._shared, taken=taken):
                self.all.append(Listener(sock, internal, 0))


def bind_all(place: Place, *, shared: bool, taken: Iterable[tuple[str, int]] = ()) -> list[socket.socket]:
    """Sockets for all addresses of the place that this machine has, but for those that are ``taken`` already.

    IPv4 and IPv6 have a socket each, so that no client appears as ``::ffff:192.0.2.1``. Raises `ServeError`.
    """
    found: list[socket.socket] = []
    lacking: ServeError | None = None
    port = place.port
    for address in _addresses(place.host):
        if port and (address, port) in taken:
            continue
        try:
            found.append(bind(address, port, shared=shared))
        except ServeError as error:
            if getattr(error.__cause__, "errno", None) in _LACKING:
                lacking = error
                continue
            for sock in found:
                sock.close()
            raise
        port = found[-1].getsockname()[1]
    if lacking is not None and not found:
        raise lacking
    return found


def _addresses(host: str) -> list[str]:
    """The addresses that a host stands for; itself, where it is one or stands for none."""
    if host in ("", "::"):
        return list(_ALL)
    try:
        address = ip_address(host)
    except ValueError:
        pass
    else:
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return [str(mapped or host)]
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return [host]  # whoever binds it tells what is wrong with it
    return list(dict.fromkeys(str(name[0]) for *_, name in found))


def bind(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the port; `shared` lets other sockets of this user bind it as well.

    Raises `ServeError`, also when another program shares the port already.
    """
    host = address.strip("[]")  # in brackets as in a URL, such as we log
    try:
        family, *_, name = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # Bound without SO_REUSEPORT first: with it, two gateways would share one port and nobody would know.
        sock = _bind(family, name, shared=False)
        if shared:
            name = sock.getsockname()
            sock.close()
            sock = _bind(family, name, shared=True)
    except (OSError, UnicodeError) as error:
        raise ServeError(
            f"cannot listen on {authority(host, port)}: {getattr(error, 'strerror', None) or 'no such address'}; "
            "choose another place with --host and --port (http_server.address, http_server.port)"
        ) from error
    return sock


def _bind(family: int, name: Any, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "linux":  # pragma: no branch  tested there; accepted connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def bind_beside(listener: socket.socket) -> socket.socket:
    """Another socket on the port of one that is shared: the kernel spreads connections over those that listen."""
    return _bind(listener.family, listener.getsockname(), shared=True)


def announce(settings: Settings, listeners: Iterable[Listener]) -> None:
    """Tell, in the log and to systemd, that the gateway is ready."""
    http = settings.http_server
    told = [each for each in listeners if not each.worker]
    operators = [_url(each.sock, http, secure=http.tls_for_operators.enabled) for each in told if each.internal]
    for url in operators:
        log.info("for operators: %s", url)
    first, *others = [_url(each.sock, http, secure=http.tls.enabled) for each in told if not each.internal]
    for url in others:
        log.info("listening on %s, too", url)
    page = (operators or [first])[0]
    if settings.admin.enabled and page.startswith("http"):
        log.info("admin page: %s/admin/", page)
    notify("READY=1")
    if first.startswith("http"):
        log.info("ready on %s and ws%s/connection/websocket", first, first.removeprefix("http"))
    else:
        log.info("ready on %s, with the path %s/connection/websocket", first, http.root_path)


def _url(sock: socket.socket, http: HTTPServerSettings, *, secure: bool) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return str(Place(path=name))
    return f"http{'s' if secure else ''}://{reachable(*name[:2])}{http.root_path}"
