"""One connection on its way: TCP, perhaps TLS, the upgrade, then what the dialect says first."""

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from typing import Any

import msgspec

from gateway.bench.dialect import CLOSE, client_frame, closing, fill, troubles
from gateway.bench.plan import LoadError, Plan
from gateway.bench.reader import NOTHING, Receive

_NO_PORT_YET = 24
"""IP_BIND_ADDRESS_NO_PORT: the port is chosen when connecting, so that all are to be had for each server."""
_RECORD = 1 << 14
"""Longest piece that TLS decrypts at once."""
_CHUNK = 1 << 16
_SOURCES = int(IPv4Address("127.0.0.1"))
_NO_WEBSOCKET = "the server speaks no WebSocket"


class Refused(Exception):  # noqa: N818  an outcome to count
    """The connection did not come about. The text is the kind by which it is counted."""


class Target(msgspec.Struct, frozen=True):
    """Where to connect to, looked up once for all connections."""

    family: int
    address: tuple[Any, ...]
    loopback: bool
    context: ssl.SSLContext | None
    name: str

    @classmethod
    def of(cls, plan: Plan) -> "Target":
        try:
            found = socket.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise LoadError(f"{plan.host}: {getattr(error, 'strerror', None) or error}") from error
        family: int = found[0][0]
        address: tuple[Any, ...] = found[0][4]
        if len(found) > 1:  # such as those of localhost: take the one where somebody listens
            with suppress(OSError), socket.create_connection((plan.host, plan.port), plan.connect_timeout) as probe:
                family, address = probe.family, probe.getpeername()
        loopback = family == socket.AF_INET and ip_address(address[0]).is_loopback
        context = None
        if plan.secure:
            context = ssl.create_default_context()
            if not plan.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return cls(family, address, loopback, context, plan.host)


def upgrade_request(plan: Plan) -> bytes:
    host = f"[{plan.host}]" if ":" in plan.host else plan.host
    names = f"Sec-WebSocket-Protocol: {', '.join(plan.dialect.names)}\r\n" if plan.dialect.names else ""
    return (
        f"GET {plan.dialect.path} HTTP/1.1\r\nHost: {host}:{plan.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: YmVuY2ggYmVuY2ggYmVuYw==\r\nSec-WebSocket-Version: 13\r\n"
        f"{names}\r\n"
    ).encode()


class Opening:
    """Goes from step to step whenever the socket is ready, until the connection is subscribed."""

    def __init__(self, plan: Plan, target: Target, request: bytes, number: int) -> None:
        self.number = number
        self._target = target
        self._request = request
        dialect, channel = plan.dialect, plan.channel(number % plan.channels)
        self._hello = [
            client_frame(dialect.encode(fill(frame, channel=channel, token=plan.token(number))), dialect.first)
            for frame in plan.hello(number)
        ]
        self._awaited = [*dialect.steps] or [b""] * len(self._hello)
        self._ready = dialect.ready
        self._pause = select.EPOLLIN
        self._received = bytearray()
        self._source = str(IPv4Address(_SOURCES + number % plan.sources)) if plan.sources > 1 else ""
        self._step: Callable[[], int] | None = self._connect
        try:
            self.socket = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise Refused(_said(error)) from error

    @property
    def receive(self) -> Receive:
        """How to read the connection once it is open."""
        return Decrypting(self.socket) if isinstance(self.socket, ssl.SSLSocket) else self.socket.recv_into

    @property
    def confirmation(self) -> bytes:
        """What has come behind the dialect's ``ready``."""
        return bytes(self._received)

    def rest(self, buffer: bytearray) -> int:
        """Put into the buffer what has come after the confirmation. Returns its size, or `NOTHING`."""
        size = len(self._received)
        buffer[:size] = self._received
        return size or NOTHING

    def proceed(self) -> int:
        """Do what can be done now. Returns the events to wait for, or 0 once subscribed.

        Raises `Refused`, and the socket is closed.
        """
        try:
            return self._proceed()
        except Refused:
            self.socket.close()
            raise

    def _proceed(self) -> int:
        try:
            while self._step is not None:
                if events := self._step():
                    return events
        except (ssl.SSLWantReadError, BlockingIOError):
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"certificate: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Refused(f"TLS: {error.reason or error}") from error
        except OSError as error:
            raise Refused(_said(error)) from error
        return 0

    def _connect(self) -> int:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source and self._target.loopback:
            self.socket.setsockopt(socket.IPPROTO_IP, _NO_PORT_YET, 1)
            self.socket.bind((self._source, 0))
        self._step = self._connected
        failed = self.socket.connect_ex(self._target.address)
        if failed and failed != errno.EINPROGRESS:
            raise OSError(failed, os.strerror(failed))
        return select.EPOLLOUT if failed else 0

    def _connected(self) -> int:
        failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        self._step = self._ask
        if self._target.context is not None:
            self._step = self._shake_hands
            self._pause = 0  # more may have been decrypted than was read: read until there is nothing
            self.socket = self._target.context.wrap_socket(
                self.socket, server_hostname=self._target.name, do_handshake_on_connect=False
            )
        return 0

    def _shake_hands(self) -> int:
        assert isinstance(self.socket, ssl.SSLSocket)
        self.socket.do_handshake()
        self._step = self._ask
        return 0

    def _ask(self) -> int:
        self.socket.send(self._request)
        self._step = self._upgraded
        return self._pause

    def _upgraded(self) -> int:
        self._receive()
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return self._pause
        status = bytes(head).split(b"\r\n", 1)[0].decode(errors="replace").partition(" ")
        if not status[0].startswith("HTTP/"):
            raise Refused(_NO_WEBSOCKET)
        if not status[2].startswith("101"):
            raise Refused(f"HTTP {status[2]}")
        self._received = rest
        self._step = self._greet
        return 0

    def _greet(self) -> int:
        """Send what can be sent; look whether the subscription is confirmed."""
        while self._hello and (at := self._received.find(self._awaited[0])) >= 0:
            del self._received[: at + len(self._awaited.pop(0))]
            self.socket.send(self._hello.pop(0))
        if not self._hello and (at := self._received.find(self._ready)) >= 0:
            del self._received[: at + len(self._ready)]
            self._step = None
            return 0
        self._check()
        self._step = self._wait
        return self._pause

    def _wait(self) -> int:
        self._receive()
        self._step = self._greet
        return 0

    def _receive(self) -> None:
        data = self.socket.recv(_CHUNK)
        if not data:
            self._check()
            raise Refused("closed without a word")
        self._received += data

    def _check(self) -> None:
        """Raise `Refused` if the server has."""
        for text in troubles(self._received):
            raise Refused(text)
        _, found, rest = self._received.rpartition(bytes((CLOSE,)))
        if found and rest and rest[0] == len(rest) - 1:
            raise Refused(closing(bytes(rest[1:])))


class Decrypting:
    """Receives from a TLS socket all that has come: what it holds back would wake nobody."""

    def __init__(self, socket: ssl.SSLSocket) -> None:
        self._socket = socket

    def __call__(self, buffer: bytearray) -> int:
        view, size = memoryview(buffer), 0
        while size + _RECORD <= len(buffer):
            try:
                more = self._socket.recv_into(view[size:])
            except ssl.SSLWantReadError:
                break
            if not more:
                return size  # the end is read again
            size += more
        if not size:
            raise BlockingIOError
        return size


def _said(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "no free port to connect from: take more source addresses"
    return (error.strerror or str(error)).lower()
