"""Publishing straight into Redis, as a node of the gateway does it."""

import socket
import time

from gateway.brokers.envelope import WITHOUT_OFFSET
from gateway.config.settings import RedisSettings
from gateway.messages import Payload, Publication, pack
from gateway.redis.keys import Keys

_ANSWERS = 1 << 16


class Commands:
    """Commands for Redis are collected in ``pending``, and leave together with ``flush``."""

    def __init__(self, port: int) -> None:
        self.pending: list[bytes] = []
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def flush(self) -> None:
        if not self.pending:
            return
        self._socket.sendall(b"".join(self.pending))
        self.pending.clear()
        try:  # what Redis answers is thrown away, so that it never has to wait for us
            while len(self._socket.recv(_ANSWERS, socket.MSG_DONTWAIT)) == _ANSWERS:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._socket.close()


class Injection(Commands):
    """Publishes for a `Load`."""

    def __init__(self, port: int, channels: list[str]) -> None:
        super().__init__(port)
        keys = Keys(RedisSettings().prefix)
        self._heads = [
            b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(name), name)
            for name in (keys.of(b"c", channel) for channel in channels)
        ]

    def publish(self, channel: int, data: bytes) -> None:
        sent = time.time_ns() // 1_000_000
        message = WITHOUT_OFFSET + pack(Publication(data=Payload(data), time=sent))
        self.pending.append(b"%b$%d\r\n%b\r\n" % (self._heads[channel], len(message), message))
