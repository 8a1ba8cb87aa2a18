"""The ways in which messages go in a response that does not end. Bytes in, bytes out: no network here.

Source: Centrifuge protocol, "http_stream", "SSE (bidirectional)", "Unidirectional transports"; WHATWG HTML,
"Server-sent events".
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.protocols.base import StreamProtocol

UNCHANGED = {
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "Expire": "0",
    "X-Accel-Buffering": "no",  # nginx would keep messages back until it has a bufferful
}
"""Headers for whoever stands between."""

EVENTS = "text/event-stream; charset=utf-8"
LINES = "application/x-ndjson"
OCTETS = "application/octet-stream"
"""What Protobuf is sent as, up and down."""


def event_frame(payload: bytes) -> bytes:
    """Messages, a line each, as one event each."""
    if b"\r" in payload:  # ends a line here, but is mere space in JSON
        payload = payload.replace(b"\r", b"")
    return b"data: %b\n\n" % payload.replace(b"\n", b"\n\ndata: ")


def line_frame(payload: bytes) -> bytes:
    """Messages, a line each, the last one ended, too."""
    return payload + b"\n"


@dataclass(frozen=True, slots=True)
class StreamKind:
    """One of these ways. Its name is that of its settings, too, and the end of its path."""

    name: str
    methods: tuple[str, ...]
    events: bool
    """Whether messages are events; otherwise lines, or what says by itself where it ends."""

    @property
    def path(self) -> str:
        return f"/connection/{self.name}"

    @property
    def opening(self) -> bytes:
        """Begins the stream of events, so that the client and what stands between see at once that it is there."""
        return b"\r\n" if self.events else b""

    def frame(self, protocol: StreamProtocol) -> Callable[[bytes], bytes]:
        """What makes a frame of messages that the protocol has joined."""
        if self.events:
            return event_frame
        return bytes if protocol.binary else line_frame

    def content_type(self, protocol: StreamProtocol) -> str:
        if self.events:
            return EVENTS
        return OCTETS if protocol.binary else LINES


HTTP_STREAM = StreamKind("http_stream", ("POST",), events=False)
SSE = StreamKind("sse", ("GET", "POST"), events=True)
UNI_HTTP_STREAM = StreamKind("uni_http_stream", ("POST",), events=False)
UNI_SSE = StreamKind("uni_sse", ("GET", "POST"), events=True)
