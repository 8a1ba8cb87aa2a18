"""Accepting where something comes before HTTP: a PROXY header, a TLS handshake, or both in that order."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from gateway import files
from gateway.serve.proxy_protocol import Address, Header, ProxyHeaderError, read_header

ACCEPTED_AT_ONCE = 64
"""Connections taken from the queue in one turn of the event loop: with each a handshake begins."""

REST = 1.0
"""Seconds without accepting when there are no descriptors left, as asyncio does it."""

SAID_EVERY = 60.0
"""Seconds between two lines about refusals of one kind."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("gateway.serve.greeting")


class Proxies:
    """Peers that are believed, as hosts: addresses and networks, separated by commas, or ``*`` for all."""

    def __init__(self, written: str) -> None:
        self._all = False
        self._networks = []
        for each in filter(None, (part.strip() for part in written.split(","))):
            if each == "*":
                self._all = True
            with suppress(ValueError):  # a name, which uvicorn takes as it stands, is nobody's address
                self._networks.append(ip_network(each, strict=False))

    def __contains__(self, host: str) -> bool:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._all or any(address in network for network in self._networks)


class Refusals:
    """How many connections were refused, by kind; of each kind a line, then at most one a minute, with their number."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.counts: dict[str, int] = {}
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def count(self, kind: str, text: str, *values: object) -> None:
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        at, told = self._said.get(kind, (-SAID_EVERY, 0))
        if (now := self._clock()) - at >= SAID_EVERY:
            self._said[kind] = now, count
            more = f"; {count - told} since the last such line" if told else ""
            log.warning(f"connection refused: {text}%s", *values, more)


class GreetingServer:
    """Accepts on a listening socket, and makes a connection of whoever has got through what comes first.

    It has what uvicorn asks of an ``asyncio.Server``. ``protocol`` makes a connection's protocol, and is given the
    client that a proxy has named. ``greeted`` has the tasks of those who have not got through yet. Without ``proxies``
    nobody sends a PROXY header; a peer by a Unix socket may always send one. Each step has ``timeout`` seconds.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[Address | None], asyncio.Protocol],
        proxies: Proxies | None,
        context: ssl.SSLContext | None,
        timeout: float,
        greeted: set[asyncio.Task[None]],
        refusals: Refusals,
        *,
        spared: bool = False,
    ) -> None:
        """``spared``: whether those who come may have the last files, too."""
        self._spared = spared
        self._sock = sock
        self._protocol = protocol
        self._proxies = proxies
        self._context = context
        self._timeout = timeout
        self._greeted = greeted
        self._refusals = refusals
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self.accept)

    def is_serving(self) -> bool:
        return self._sock.fileno() >= 0

    def close(self) -> None:
        """Accept nobody more. Who is being greeted goes on."""
        if self.is_serving():
            self._loop.remove_reader(self._sock)
            self._sock.close()
        if self._resting is not None:
            self._resting.cancel()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for: connections are waited for by themselves."""

    def accept(self) -> None:
        """Take connections from the queue."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(error)
                return
            self.greet(connection)

    def greet(self, connection: socket.socket) -> None:
        """Let a connection in, once it has said what must come first."""
        if not self._spared and files.exhausted(connection.fileno()):
            connection.close()  # unheard: what is left is not for clients
            return
        task = self._loop.create_task(self._greet(connection))
        self._greeted.add(task)
        task.add_done_callback(self._greeted.discard)

    def _rest(self, error: OSError) -> None:
        self._refusals.count("descriptors", "cannot accept: %s", error.strerror)
        self._loop.remove_reader(self._sock)
        self._resting = self._loop.call_later(REST, self._loop.add_reader, self._sock, self.accept)

    async def _greet(self, connection: socket.socket) -> None:
        """Let a connection in, or drop it with the reason in the log."""
        host, accepted = "unix", False
        try:
            connection.setblocking(False)
            if connection.family != socket.AF_UNIX:
                host = connection.getpeername()[0]
            client = await self._client(connection, host)
            limits: dict[str, Any] = {}
            if self._context is not None:
                limits = {"ssl": self._context, "ssl_handshake_timeout": self._timeout}
            await self._loop.connect_accepted_socket(lambda: self._protocol(client), connection, **limits)
            accepted = True
        except ProxyHeaderError as error:
            self._refusals.count("proxy_header", "%s: %s", host, error)
        except TimeoutError:
            self._refusals.count("proxy_header", "%s: no whole PROXY header in %g s", host, self._timeout)
        except ssl.SSLError as error:
            self._refusals.count("tls", "%s: no TLS: %s", host, error.reason or error)
        except ConnectionAbortedError:  # so uvloop tells the end of its time
            self._refusals.count("tls", "%s: no TLS handshake in %g s", host, self._timeout)
        except OSError as error:  # it has gone
            log.debug("%s is gone before its connection began: %s", host, error)
        finally:
            if not accepted:
                connection.close()

    async def _client(self, connection: socket.socket, host: str) -> Address | None:
        """The client that a proxy names. Raises `ProxyHeaderError`, and ``TimeoutError``."""
        if self._proxies is None:
            return None
        if host != "unix" and host not in self._proxies:
            raise ProxyHeaderError("a PROXY header is taken from http_server.forwarded_allow_ips alone")
        arrived, found = b"", read_header(b"")
        async with asyncio.timeout(self._timeout):
            while not isinstance(found, Header):
                piece = await self._loop.sock_recv(connection, found)
                if not piece:
                    raise ConnectionResetError("closed")
                arrived += piece
                found = read_header(arrived)
        return found.client
