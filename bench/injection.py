"""Publishing straight into Redis, as a node of the gateway does it."""

import socket
import time
from collections.abc import Sequence
from contextlib import closing

from hiredis import pack_command
from redis import Redis

from bench.redises import KEYS, Redises, held
from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.calls import PUBLISH, publish_call
from gateway.brokers.envelope import WITHOUT_OFFSET
from gateway.messages import Payload, Publication, pack

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

    def finish(self) -> None:
        """Send them, and wait until they are carried out. For those who have not sent any before."""
        self._socket.sendall(b"".join([*self.pending, b"*2\r\n$4\r\nECHO\r\n$4\r\ndone\r\n"]))
        self.pending.clear()
        end = b""
        while not end.endswith(b"\r\ndone\r\n"):
            end = end[-16:] + self._socket.recv(_ANSWERS)

    def close(self) -> None:
        self._socket.close()


class Injection(Commands):
    """Publishes for a `Load`."""

    def __init__(self, port: int, channels: list[str]) -> None:
        super().__init__(port)
        self._heads = [
            b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(name), name)
            for name in (KEYS.of(b"c", channel) for channel in channels)
        ]

    def publish(self, channel: int, data: bytes) -> None:
        sent = time.time_ns() // 1_000_000
        message = WITHOUT_OFFSET + pack(Publication(data=Payload(data), time=sent))
        self.pending.append(b"%b$%d\r\n%b\r\n" % (self._heads[channel], len(message), message))


HISTORY = StreamOptions(100, 60.0, 720 * 3600.0)
"""What is kept of a channel."""


class Appends:
    """Publishes for a `Load` into channels with history, each at the server that keeps it."""

    def __init__(self, redises: Redises, channels: Sequence[str], history: StreamOptions = HISTORY) -> None:
        self._servers = [Commands(server.port) for server in redises.servers]
        script = PUBLISH.sharded if redises.layout.cluster else PUBLISH
        for server in redises.servers:
            with closing(Redis(port=server.port)) as redis:
                redis.script_load(script.text.decode())
        identities = [held(server.port) for server in redises.servers]
        self._ways = []
        for channel in channels:
            call = publish_call(KEYS, channel, Publication(data=Payload(b"0")), history, PublishOptions(), 0.0)
            number = redises.layout.place(channel)
            words = script.by_digest(call.keys, call.args, identities[number])
            place = 3 + len(call.keys)  # of the data, behind EVALSHA, the digest, the number of keys, and these
            head = b"*%d\r\n" % len(words) + _without_count(words[:place])
            tail = _without_count(words[place + 1 :])
            self._ways.append((self._servers[number], head, tail))

    def publish(self, channel: int, data: bytes) -> None:
        server, head, tail = self._ways[channel]
        message = pack(Publication(data=Payload(data), time=time.time_ns() // 1_000_000))
        server.pending.append(b"%b$%d\r\n%b\r\n%b" % (head, len(message), message, tail))

    def flush(self) -> None:
        for server in self._servers:
            server.flush()

    def finish(self) -> None:
        for server in self._servers:
            server.finish()

    def close(self) -> None:
        for server in self._servers:
            server.close()


def _without_count(words: Sequence[object]) -> bytes:
    """A part of a command."""
    packed: bytes = pack_command(tuple(words))  # type: ignore[arg-type]  # typed as if it took one word alone
    return packed.partition(b"\r\n")[2]
