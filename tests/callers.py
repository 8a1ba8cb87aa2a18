"""Clients without an event loop, whose own objects are gone when they are: for counting what a server keeps of them."""

import json
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from tests.transports.sockets import CLOSE, TEXT, client_frame, upgrade_request


@contextmanager
def calling(count: int, port: int, path: str, *headers: bytes) -> "Iterator[list[Caller]]":
    """So many at once, which are gone afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(Caller(port, path, *headers)) for _ in range(count)]


class Caller:
    """One WebSocket, from the handshake on."""

    def __init__(self, port: int, path: str = "/connection/websocket", *headers: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")
        self._id = 0
        self._socket.sendall(upgrade_request(path, *headers))
        self.status = read_head(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.drop()

    def say(self, **command: Any) -> None:
        """Give a command, and do not wait."""
        self._id += 1
        self.write(client_frame(json.dumps({"id": self._id, **command}).encode()))

    def ask(self, **command: Any) -> dict[str, Any]:
        """Give a command; its reply."""
        self.say(**command)
        while True:
            for reply in self.hear():
                if reply.get("id") == self._id:
                    return reply

    def text(self, text: str) -> None:
        self.write(client_frame(text.encode()))

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self) -> list[dict[str, Any]]:
        """What the next frame says."""
        opcode, payload = self.frame()
        assert opcode == TEXT, (opcode, payload)
        return [json.loads(line) for line in payload.splitlines()]

    def frame(self) -> tuple[int, bytes]:
        first, size = self._file.read(2)
        if size == 126:
            [size] = struct.unpack("!H", self._file.read(2))
        elif size == 127:
            [size] = struct.unpack("!Q", self._file.read(8))
        payload = self._file.read(size)
        if first & 0x40:
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
        return first & 0x0F, payload

    def leave(self) -> None:
        """Say goodbye, and wait for the answer."""
        self.write(client_frame(struct.pack("!H", 1000), CLOSE))
        self.code()

    def code(self) -> int:
        """With which the server closes, after whatever comes before."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                self.write(client_frame(payload[:2], CLOSE))
                self.rest()
                return int.from_bytes(payload[:2], "big")

    def rest(self) -> bytes:
        """What comes until the server has closed."""
        try:
            return self._file.read()
        except ConnectionError:
            return b""

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    def drop(self) -> None:
        self._file.close()
        self._socket.close()


def read_head(file: Any) -> int:
    """The status of an HTTP response, whose headers are read."""
    status = int(file.readline().split()[1])
    while file.readline() != b"\r\n":
        pass
    return status
