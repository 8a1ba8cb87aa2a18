"""Settings of the transports beside the WebSocket that clients give commands by."""

from pydantic import Field

from gateway.config.settings.section import Section

BODY_SIZE = 65536
"""What a WebSocket message may be by default, too."""


class StreamSettings(Section):
    """What all transports have that are responses without end."""

    enabled: bool = False
    """Serve it."""
    max_request_body_size: int = Field(default=BODY_SIZE, ge=256)
    """Largest request, in bytes; 65536 at most, as before a client is let in, and client.message_size_limit."""


class HTTPStreamSettings(StreamSettings):
    """A response that does not end, at /connection/http_stream: for SDKs, where WebSockets are blocked."""


class SSESettings(StreamSettings):
    """Server-sent events at /connection/sse: for SDKs, where WebSockets are blocked."""


class EmulationSettings(Section):
    """Commands of clients that hear by http_stream or sse, at /emulation: there as soon as one of the two is."""

    max_request_body_size: int = Field(default=BODY_SIZE, ge=256)
    """Largest request, in bytes; for its commands client.message_size_limit holds."""


class RefusalSettings(Section):
    """A response in place of a stream."""

    status_code: int = Field(ge=200, le=599, examples=[401])
    """Its status."""
    body: str = ""
    """Its text; empty is the reason. None for 204, 205 and 304, which have no body."""


class ConnectCodeTransform(Section):
    """What becomes of an error or a disconnect."""

    code: int = Field(ge=1, le=4999, examples=[3500])
    """Its code."""
    to: RefusalSettings
    """How the client is answered."""


class ConnectCodeToHTTPResponse(Section):
    """Statuses for clients that are not let in. The head of a response waits until connect is decided."""

    enabled: bool = False
    """Answer them so, with 500 for what is not named; by default the stream tells the code, and ends."""
    transforms: tuple[ConnectCodeTransform, ...] = Field(
        default=(), examples=[[{"code": 3500, "to": {"status_code": 401}}]]
    )
    """The status by code: that of the error (109, an expired token) or of the disconnect (3500, an invalid one)."""


class UniStreamSettings(StreamSettings):
    """What streams one way have beside."""

    connect_code_to_http_response: ConnectCodeToHTTPResponse = ConnectCodeToHTTPResponse()
    """Statuses for clients that are not let in."""


class UniHTTPStreamSettings(UniStreamSettings):
    """A response that does not end, at /connection/uni_http_stream, for clients that only listen: one push a line."""


class UniSSESettings(UniStreamSettings):
    """Server-sent events at /connection/uni_sse, for pages that only listen and where WebSockets are blocked."""


class UniWebSocketSettings(Section):
    """WebSockets at /connection/uni_websocket for clients that only listen. They have the limits of all WebSockets."""

    enabled: bool = False
    """Serve them."""
    join_push_messages: bool = False
    """Send what comes together as one message, a push a line; by default each push is one."""
    disable_disconnect_push: bool = False
    """Tell the reason of the end by the close frame alone."""
