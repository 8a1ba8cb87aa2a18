"""A plain WebSocket: the client of a route of the program's own."""

import json
from collections import deque
from typing import Any

from gateway.program.encoding import encode_data
from gateway.testing.call import UpgradeRequest
from gateway.testing.peer import Peer


class Socket(Peer):
    """Made by `Kit.websocket`. What receives raises `Late` after its deadline, and `Disconnected` at the end."""

    subprotocol: str | None = None
    """What the application has chosen."""
    _inbox: deque[str | bytes]

    async def open(self, handshake: UpgradeRequest) -> None:
        self._inbox = deque()
        self.subprotocol = (await self._open(handshake)).subprotocol
        await self._cluster.rest()  # a route that has accepted may have to subscribe, too

    async def send_text(self, text: str) -> None:
        self._send(text)

    async def send_bytes(self, data: bytes) -> None:
        self._send(data)

    async def send_json(self, value: Any) -> None:
        """As text; ``value`` may be a pydantic model, too."""
        self._send(encode_data(value).decode())

    async def receive(self, *, within: float | None = None) -> str | bytes:
        """The next message, whatever it is."""
        return await self.until(lambda: self._inbox.popleft() if self._inbox else None, "message", within)

    async def receive_text(self, *, within: float | None = None) -> str:
        message = await self.receive(within=within)
        if not isinstance(message, str):
            raise TypeError(f"bytes have come where text was expected: {message!r}")
        return message

    async def receive_bytes(self, *, within: float | None = None) -> bytes:
        message = await self.receive(within=within)
        if not isinstance(message, bytes):
            raise TypeError(f"text has come where bytes were expected: {message!r}")
        return message

    async def receive_json(self, *, within: float | None = None) -> Any:
        return json.loads(await self.receive_text(within=within))

    async def nothing(self) -> None:
        """Nothing has come that was not received yet, and nothing is on its way. Raises `Unexpected`.

        The application has done with all that this kit's clients have sent, and what was published has arrived.
        """
        await self._cluster.wait_idle()
        self.refuse_any(list(self._inbox), f"by {self.name}")

    def _send(self, content: str | bytes) -> None:
        self.check()
        if self._call.end is not None:
            raise self._call.end
        self._call.send(content)

    def _take(self, content: str | bytes) -> None:
        self._heard.append(repr(content))
        self._inbox.append(content)
