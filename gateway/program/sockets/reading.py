"""What a plain client says, whoever asks: the connection, or the WebSocket that the route has in its hands."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.types import Message, Receive

from gateway.errors import Disconnect
from gateway.program.sockets.session import PlainSession
from gateway.program.sockets.writing import PlainTransport
from gateway.protocols.plain import Plain
from gateway.transports.frames import POLICY

OVERHEAD = 512
"""Bytes that a message takes which waits, beside its own."""


class Reading:
    """Stands in front of the server's ``receive`` while the connection is attached.

    With ``strict``, a message that is not in the connection's format ends it, with 1003 or 1007.
    """

    def __init__(
        self,
        session: PlainSession,
        protocol: Plain,
        transport: PlainTransport,
        receive: Receive,
        *,
        strict: bool,
        left: Callable[[], None],
    ) -> None:
        self.value: Any = None
        """What the last message says, in the connection's format."""
        self.end: Message | None = None
        """That the client has left: the last of what waits."""
        self._session = session
        self._protocol = protocol
        self._transport = transport
        self._receive = receive
        self._strict = strict
        self._left = left
        self._detached = False
        self._unread: deque[tuple[Message, Any, int]] = deque()
        """Messages, what they say, and the bytes that they take."""
        self._size = 0
        self._more = asyncio.Event()
        self._direct = False
        """Whether somebody waits for the client just now."""
        self._watched = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to receive."""
        return self.end is not None and not self._unread

    async def receive(self) -> Message:
        """The next message that counts. Satisfies ``Receive``."""
        while not self._unread:
            if self._watcher is not None:
                self._more.clear()
                await self._more.wait()
                continue
            self._direct = True
            try:
                await self._take()
            finally:
                self._direct = False
                if self._watched:
                    self.watch()
        message, self.value, size = self._unread.popleft()
        self._size -= size
        return message

    def watch(self) -> None:
        """From now on, notice that the client leaves though nobody asks for its messages.

        They wait, client.queue_max_size bytes of them; with more, it is closed with 1008.
        """
        self._watched = True
        if self._watcher is None and not (self._direct or self._detached):
            self._watcher = asyncio.create_task(self._read_ahead())

    def detach(self) -> None:
        """What comes from now on is the route's."""
        self._detached = True
        self._left = _nothing  # it is the connection's, which has the WebSocket, which has this
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self.end is None:
            watcher.cancel()
        self._more.set()

    async def _read_ahead(self) -> None:
        limit = self._session.node.settings.client.queue_max_size
        try:
            while not self._detached:
                await self._take()
                if self._size > limit:
                    self._session.disconnect(Disconnect(POLICY, "nobody reads what you send"))
        finally:
            self._watcher = None
            self._more.set()

    async def _take(self) -> None:
        """Wait for a message, and keep it if it counts."""
        message = await (self._receive() if self._detached else self._transport.receive(self._receive))
        value, size = None, 0
        if message["type"] == "websocket.disconnect":
            self.end = message
            self._left()
        elif not self._detached:
            if self._session.closed:  # what comes after our close does not count
                return
            try:
                message, value, size = self._read(message)
            except Disconnect as reason:
                self._session.disconnect(reason)
                return
        self._unread.append((message, value, size))
        self._size += size
        self._more.set()

    def _read(self, message: Message) -> tuple[Message, Any, int]:
        """The message as the format has it, what it says, and its size.

        Raises ``Disconnect`` if it is not in the format.
        """
        text = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        self._session.node.metrics.bytes_in += len(content)
        size = len(content) + OVERHEAD
        if not self._strict:
            return message, None, size
        value = self._protocol.read(content)
        if self._protocol.binary is isinstance(content, bytes):
            return message, value, size
        if isinstance(content, bytes):
            return {**message, "text": content.decode()}, value, size
        return {**message, "bytes": content.encode()}, value, size


def _nothing() -> None:
    """Nobody is to be told any more."""
