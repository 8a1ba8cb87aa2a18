"""``websockets`` as the judge of a stream of frames."""

import codecs
import logging
from typing import NamedTuple

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from gateway.transports.frames import CLOSE, TEXT
from tests.transports.wire import Messages

WINDOW_BITS = 15

SILENT = logging.getLogger("tests.silent")
SILENT.disabled = True


class Outcome(NamedTuple):
    messages: Messages
    code: int
    """Of the violation; 0 for none."""
    why: str


class Deflate(PerMessageDeflate):
    """Remembers what it is given to decompress."""

    def __init__(self) -> None:
        super().__init__(True, True, WINDOW_BITS, WINDOW_BITS)
        self.packed: list[bytes | None] = []
        """Compressed data of each frame; None if it was not compressed."""
        self.fragment = False
        """Whether the last frame belongs to a compressed message of several."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        continued = frame.opcode is Opcode.CONT and self.decode_cont_data
        begins = frame.opcode in (Opcode.TEXT, Opcode.BINARY) and frame.rsv1
        self.packed.append(bytes(frame.data) if continued or begins else None)
        self.fragment = continued or (begins and not frame.fin)
        return super().decode(frame, max_size=max_size)


class Oracle:
    """``websockets``, and the check of text that it leaves to others."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._deflate = Deflate()
        self._protocol = ServerProtocol(state=OPEN, max_size=limit, logger=SILENT)
        self._protocol.extensions = [self._deflate]
        self._protocol.receive_data(data)
        self.packed: list[bytes | None] = []
        """Compressed data of each message; None if it was not compressed."""
        self.unfinished: bytes | None = None
        """The same of the message that has not ended."""
        self.outcome = self._judge()
        self.in_compressed_fragments = self._deflate.decode_cont_data or self._deflate.fragment

    def _judge(self) -> Outcome:
        messages: Messages = []
        try:
            self._gather(messages)
        except UnicodeDecodeError:
            return Outcome(messages, 1007, "text is not UTF-8")
        error = self._protocol.parser_exc
        if error is None:
            return Outcome(messages, 0, "")
        close = self._protocol.close_sent
        assert close is not None
        return Outcome(messages, int(close.code), str(error))

    def _gather(self, messages: Messages) -> None:
        """Make messages of frames. Raises ``UnicodeDecodeError``."""
        opcode, message, packed = 0, b"", b""
        decoder = codecs.getincrementaldecoder("utf-8")()
        for event_, part in zip(self._protocol.events_received(), self._deflate.packed, strict=False):
            assert isinstance(event_, Frame)
            if event_.opcode >= CLOSE:
                messages.append((int(event_.opcode), bytes(event_.data)))
                self.packed.append(None)
                continue
            opcode = int(event_.opcode) or opcode
            message += event_.data
            packed += part or b""
            if opcode == TEXT and part is None:
                decoder.decode(bytes(event_.data), event_.fin)
            if event_.fin:
                if opcode == TEXT:
                    message.decode()
                messages.append((opcode, message))
                self.packed.append(packed if part is not None else None)
                message, packed = b"", b""
            self.unfinished = packed
