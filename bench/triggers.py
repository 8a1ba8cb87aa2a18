"""Publishing by the HTTP API of the Pusher protocol, as the backend of an app does it."""

import hashlib
import hmac
import json
import socket
import time
from collections import deque
from collections.abc import Sequence

from bench.servers import Failed

APP, KEY, SECRET = "9001", "benchkey", "a secret of the bench"

EVENT = "tick"
_PATIENCE = 10.0
"""Seconds within which an event must be accepted."""


class Triggers:
    """Publishes for a `Load` whose connections are subscribed. A connection for each event that is under way."""

    def __init__(self, port: int, channels: Sequence[str], connections: int) -> None:
        self._port, self._channels = port, channels
        self._free = deque(self._connect() for _ in range(connections))
        self._asked: deque[socket.socket] = deque()
        """Those whose answer is not read yet, in the order in which they were asked."""

    def publish(self, channel: int, data: bytes) -> None:
        """Post an event, when one of those before is accepted if no connection is free."""
        if not self._free:
            self._accept(self._asked.popleft())
        connection = self._free.popleft()
        connection.sendall(request(self._channels[channel], data.decode()))
        self._asked.append(connection)

    def close(self) -> None:
        for each in (*self._free, *self._asked):
            each.close()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _accept(self, connection: socket.socket) -> None:
        """Read an answer. Raises `Failed` if it is a refusal, or none comes."""
        answer = b""
        while not answer.endswith(b"}"):  # each body is a JSON object
            part = connection.recv(4096)
            answer += part
            if not part:
                break
        head = answer.partition(b"\r\n\r\n")[0].lower()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            connection.close()
            raise Failed(f"an event was not accepted: {answer.decode(errors='replace')}")
        if b"\r\nconnection: close" in head:  # as Soketi does each time
            connection.close()
            connection = self._connect()
        self._free.append(connection)


def request(channel: str, data: str) -> bytes:
    """The signed request that publishes an event."""
    body = json.dumps({"name": EVENT, "channels": [channel], "data": data}, separators=(",", ":")).encode()
    path, digest = f"/apps/{APP}/events", hashlib.md5(body, usedforsecurity=False).hexdigest()
    query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5={digest}"
    signature = hmac.digest(SECRET.encode(), f"POST\n{path}\n{query}".encode(), "sha256").hex()
    head = f"POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)
