"""What a client says, taken apart: the data of its messages.

Source: Pusher Channels protocol, "Subscription events", "User authentication".
"""

from msgspec import Struct

from gateway.messages import Position


class Subscribing(Struct):
    """Data of a subscribe."""

    channel: str
    auth: str | None = None
    channel_data: str | None = None
    resume: Position | None = None
    """Where the client stood: an extension of this gateway."""


class Unsubscribing(Struct):
    """Data of an unsubscribe."""

    channel: str


class SigningIn(Struct):
    """Data of a sign-in."""

    auth: str
    user_data: str
