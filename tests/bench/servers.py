"""Servers for the load generator: a real gateway, and small ones that do one thing wrong or differently."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from gateway.bench.dialect import Dialect

BARE = Dialect(path="/")
"""Nothing but messages."""
ECHO = Dialect(path="/", ready=b"welcome")
"""What `Room` speaks: who has been welcomed gets every message as it came."""

Handler = Callable[[ServerConnection], None]


class Room:
    """Sends each message to all connections, as the simplest of servers do."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self._lock = threading.Lock()

    def __call__(self, connection: ServerConnection) -> None:
        self.join(connection)
        with suppress(ConnectionClosed):
            for text in connection:
                self.send(text)

    def join(self, connection: ServerConnection) -> None:
        with self._lock:
            self.connections.append(connection)
            connection.send("welcome")

    def send(self, text: str | bytes) -> None:
        with self._lock:
            for connection in self.connections:
                with suppress(ConnectionClosed):
                    connection.send(text)


@contextmanager
def websockets(
    handler: Handler, tls: ssl.SSLContext | None = None, status: HTTPStatus | None = None, **options: Any
) -> Iterator[int]:
    """Serve in threads, and yield the port. With a status, every upgrade is refused with it."""

    def refuse(connection: ServerConnection, _: Request) -> Response | None:
        return connection.respond(status, "") if status else None

    options = {"ping_interval": None, "compression": None, **options}
    with serve(handler, "127.0.0.1", 0, ssl=tls, process_request=refuse, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw(answer: bytes | None) -> Iterator[int]:
    """Accept connections and answer the first thing that comes on each; None: be silent."""
    held: list[socket.socket] = []

    def speak(connection: socket.socket, answer: bytes) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # what closes with input unread, resets
            pass

    def serve_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            if answer is not None:
                with suppress(OSError):
                    speak(connection, answer)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()
