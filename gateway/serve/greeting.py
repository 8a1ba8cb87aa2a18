"""Accepting where something comes before HTTP: a PROXY header, a TLS handshake, or both in that order."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from gateway import files
from gateway.limits.addresses import UNIX, Proxies
from gateway.recurring import Address, Recurring
from gateway.serve import proxy_protocol
from gateway.serve.proxy_protocol import Header, ProxyHeaderError, read_header

ACCEPTED_AT_ONCE = 64
"""Connections taken from the queue in one turn of the event loop: with each a handshake begins."""

REST = 1.0
"""Seconds without accepting when there are no descriptors left, as asyncio does it."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("gateway.serve.greeting")


class GreetingServer:
    """Accepts on a listening socket, and makes a connection of whoever has got through what comes first.

    It has what uvicorn asks of an ``asyncio.Server``. ``protocol`` makes a connection's protocol, and is given the
    client that a proxy has named. ``greeted`` has the tasks of those who have not got through yet. Without ``proxies``
    nobody sends a PROXY header; a peer by a Unix socket may always send one. Each step has ``timeout`` seconds.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[proxy_protocol.Address | None], asyncio.Protocol],
        proxies: Proxies | None,
        context: ssl.SSLContext | None,
        timeout: float,
        greeted: set[asyncio.Task[None]],
        refusals: Recurring,
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
        self._refusals.happened("descriptors", "no connection is accepted: %s", error.strerror)
        self._loop.remove_reader(self._sock)
        self._resting = self._loop.call_later(REST, self._loop.add_reader, self._sock, self.accept)

    async def _greet(self, connection: socket.socket) -> None:
        """Let a connection in, or drop it with the reason in the log."""
        host, accepted = UNIX, False
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
            self._refuse("proxy_header", host, str(error))
        except TimeoutError:
            self._refuse("proxy_header", host, f"no whole PROXY header in {self._timeout:g} s")
        except ssl.SSLError as error:
            self._refuse("tls", host, f"no TLS: {error.reason or error}")
        except ConnectionAbortedError:  # so uvloop tells the end of its time
            self._refuse("tls", host, f"no TLS handshake in {self._timeout:g} s")
        except OSError as error:  # it has gone
            log.debug("%s is gone before its connection began: %s", host, error)
        finally:
            if not accepted:
                connection.close()

    def _refuse(self, kind: str, host: str, why: str) -> None:
        self._refusals.happened(kind, "%s: connection refused: %s", Address(host), why)

    async def _client(self, connection: socket.socket, host: str) -> proxy_protocol.Address | None:
        """The client that a proxy names. Raises `ProxyHeaderError`, and ``TimeoutError``."""
        if self._proxies is None:
            return None
        if not self._proxies.trusts(host):
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
