"""What handlers may return: who a client is, what it is granted, what is published."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Generic, get_args, get_origin

from gateway.auth.tokens import Grant as TokenGrant
from gateway.auth.tokens import Override
from gateway.maps.base import KeyMode
from gateway.messages import Payload
from gateway.program.encoding import encode_data
from gateway.program.routes.client import Client
from gateway.program.routes.signatures import SignatureError, members, returned
from gateway.program.typed import T
from gateway.session.application import Admission, Admitted, unix_seconds, user_id


@dataclass(frozen=True, kw_only=True)
class Grant(Generic[T]):
    """What a subscription has; what is None is as the channel's options say.

    ``info`` is shown in presence (``chan_info``), cut to what ``-> Grant[Seat]`` says it is; ``data`` goes to the
    client with the answer. At ``expires`` (Unix seconds, or a datetime) the subscription ends, and the client asks
    again, unless ``on_refresh`` has renewed it.
    """

    info: T | None = None
    data: Any = None
    expires: float | datetime | None = None
    presence: bool | None = None
    join_leave: bool | None = None
    push_join_leave: bool | None = None
    recovery: bool | None = None
    positioning: bool | None = None

    def admitted(self, refreshable: bool = False, encode: "Encode" = encode_data) -> Admitted:
        override = Override(self.presence, self.join_leave, self.push_join_leave, self.recovery, self.positioning)
        grant = TokenGrant(_payload(self.info, encode), _payload(self.data), override)
        return Admitted(grant, unix_seconds(self.expires), refreshable)


_NOTHING_SAID: Grant[Any] = Grant()


@dataclass(frozen=True)
class Credentials(Generic[T]):
    """Who a client is. A client whose ``user`` is empty is anonymous.

    ``info`` is shown in presence (``conn_info``), cut to what ``-> Credentials[Profile]`` says it is; ``data``
    goes to the client with the answer. ``channels`` are subscribed by the server: names, or a mapping of names to
    `Grant`. At ``expires`` (Unix seconds, or a datetime) the connection ends, and the client connects again,
    unless ``on_refresh`` has renewed it by then.
    """

    user: str | int | None = ""
    info: T | None = field(default=None, kw_only=True)
    data: Any = field(default=None, kw_only=True)
    channels: Iterable[str] | Mapping[str, Grant[Any]] = field(default=(), kw_only=True)
    expires: float | datetime | None = field(default=None, kw_only=True)

    def admission(self, refreshable: bool = False, encode: "Encode" = encode_data) -> Admission:
        if isinstance(self.channels, str):
            raise TypeError(f'channels is a list of names, as in Credentials(user, channels=["{self.channels}"])')
        channels = self.channels if isinstance(self.channels, Mapping) else dict.fromkeys(self.channels, _NOTHING_SAID)
        return Admission(
            user_id(self.user),
            unix_seconds(self.expires),
            _payload(self.info, encode),
            {name: grant.admitted() for name, grant in channels.items()},
            _payload(self.data),
            refreshable,
        )


@dataclass(frozen=True)
class Message(Generic[T]):
    """What is published in place of what the client sent, and how; see `Gateway.publish` for the options.

    The data is cut to what ``-> Message[ChatMessage]`` says it is. In a map, ``key`` takes the place of the client's,
    ``key_mode`` is as for `MapHandle.publish`, and ``skip_history`` and ``exclude`` there are none.
    """

    data: T
    tags: dict[str, str] | None = field(default=None, kw_only=True)
    skip_history: bool = field(default=False, kw_only=True)
    idempotency_key: str = field(default="", kw_only=True)
    delta: bool = field(default=False, kw_only=True)
    exclude: Client | None = field(default=None, kw_only=True)
    key: str = field(default="", kw_only=True)
    key_mode: KeyMode = field(default="", kw_only=True)


class Handled(Enum):
    """The type of `HANDLED`."""

    HANDLED = "handled"


HANDLED = Handled.HANDLED
"""Returned by ``on_publish``: the client's publish is answered, and nothing is published."""


Encode = Callable[[Any], Payload]


def info_type(call: Callable[..., Any], kind: type) -> Any:
    """``Seat`` where a handler says ``-> Grant[Seat]``; None where it does not say."""
    try:
        said = members(returned(call))
    except SignatureError:  # what only a type checker knows is no promise that can be kept
        return None
    found = [get_args(each)[0] for each in said if get_origin(each) is kind]
    return found[0] if found and found[0] is not Any else None


def _payload(value: Any, encode: Encode = encode_data) -> Payload | None:
    return None if value is None else encode(value)
