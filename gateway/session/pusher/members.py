"""Who a client is in a presence channel: what the backend has signed for it, or the user it has signed in as.

Source: Pusher Channels protocol, "Presence channels".
"""

from typing import NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.messages import Payload
from gateway.session.pusher.replies import AUTH, LIMIT, SubscribeRefused

LONGEST_USER = 128
"""Characters of a member's id."""

MEMBER_TOO_LARGE = 4301
"""Status of the error."""


class Member(NamedTuple):
    """One user of a presence channel."""

    user: str
    info: Payload | None = None


class _ChannelData(Struct):
    user_id: str | int | float
    user_info: Raw = Raw(b"null")


_channel_data = Decoder(_ChannelData).decode


def member_of(channel_data: str, largest: int) -> Member:
    """The member that a text of at most so many bytes names.

    Raises `SubscribeRefused` for one that is none. Numbers name the same users as their texts do.
    """
    text = channel_data.encode()
    _check_size("channel_data", text, largest)
    try:
        found = _channel_data(text)
    except (DecodeError, RecursionError):
        raise SubscribeRefused(AUTH, "channel_data must be JSON with a user_id, a string or a number", 401) from None
    user = _named(found.user_id)
    if not 0 < len(user) <= LONGEST_USER:
        raise SubscribeRefused(AUTH, f"user_id must have 1 to {LONGEST_USER} characters", 401)
    return Member(user, info_of(found.user_info))


def member_of_user(user: str, info: Payload | None, largest: int) -> Member:
    """The member that a client is by its sign-in. Raises `SubscribeRefused` if more is known of it than others take."""
    _check_size("user_info", info or b"", largest)
    return Member(user, info)


def info_of(raw: Raw) -> Payload | None:
    """What others are shown of a user. Raises `SubscribeRefused` for what is neither an object nor null."""
    info = bytes(raw).strip()
    if info == b"null":
        return None
    if info[:1] != b"{":
        raise SubscribeRefused(AUTH, "user_info must be an object", 401)
    return Payload(info)


def _check_size(what: str, text: bytes, largest: int) -> None:
    if len(text) > largest:
        raise SubscribeRefused(LIMIT, f"{what} must not be larger than {largest} bytes", MEMBER_TOO_LARGE)


def _named(user: str | float) -> str:
    if isinstance(user, float) and user.is_integer():
        user = int(user)
    return str(user)
