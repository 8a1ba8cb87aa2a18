"""What a plain client says, whoever asks: the connection, or the WebSocket that the route has in its hands."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Message, Receive

from gateway.errors import Disconnect
from gateway.program.sockets.session import PlainSession
from gateway.program.sockets.writing import PlainTransport
from gateway.protocols.plain import Plain


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
        """That the client has left."""
        self._session = session
        self._protocol = protocol
        self._transport = transport
        self._receive = receive
        self._strict = strict
        self._left = left
        self._detached = False
        self._direct = False
        """Whether somebody waits for the client just now."""
        self._ahead: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """The next message that counts. Satisfies ``Receive``."""
        while True:
            message = await self._next()
            if message["type"] == "websocket.disconnect":
                self.end = message
                self._left()
            elif not self._detached:
                if self._session.closed:  # what comes after our close does not count
                    continue
                try:
                    return self._read(message)
                except Disconnect as reason:
                    self._session.disconnect(reason)
                    continue
            return message

    def watch(self, changed: Callable[[], None]) -> None:
        """Notice that the client leaves though nobody asks for its messages.

        ``changed`` is called when something has come.
        """
        if self._ahead is None and not self._direct:
            self._ahead = asyncio.create_task(self._transport.receive(self._receive))
            self._ahead.add_done_callback(lambda _: self._look(changed))

    def detach(self) -> None:
        """What comes from now on is the route's."""
        self._detached = True
        if self._ahead is not None and not self._ahead.done():
            self._ahead.cancel()
            self._ahead = None

    async def _next(self) -> Message:
        if self._ahead is None:
            self._direct = True
            try:
                return await (self._receive() if self._detached else self._transport.receive(self._receive))
            finally:
                self._direct = False
        message = await asyncio.shield(self._ahead)
        self._ahead = None
        return message

    def _look(self, changed: Callable[[], None]) -> None:
        ahead = self._ahead
        arrived = ahead is not None and not ahead.cancelled() and ahead.exception() is None
        if ahead is not None and arrived and ahead.result()["type"] == "websocket.disconnect":
            self.end = ahead.result()
            self._left()
        changed()

    def _read(self, message: Message) -> Message:
        """The message as the format has it. Raises ``Disconnect`` if it is not in it."""
        text = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        self._session.node.metrics.bytes_in += len(content)
        if not self._strict:
            return message
        self.value = self._protocol.read(content)
        if self._protocol.binary is isinstance(content, bytes):
            return message
        if isinstance(content, bytes):
            return {**message, "text": content.decode()}
        return {**message, "bytes": content.encode()}
