"""Kinds of channels in the Pusher protocol, which their names say; and where they stand among the gateway's channels.

A channel of an app is the channel of that name in the app's namespace: ``private-orders.7`` of an app in the namespace
``shop`` is ``shop:private-orders.7``, and the inbox ``#server-to-user-17`` is ``shop:#17``.

Source: Pusher Channels protocol, "Channel types", "Naming channels".
"""

import re
from functools import lru_cache
from typing import NamedTuple

INBOX = "#server-to-user-"
"""Begins the name of a user's inbox, for Pusher's clients."""

LONGEST_NAME = 200
"""Characters of a channel's name; the documentation says 164, libraries send 200."""

_NAME = re.compile(r"[A-Za-z0-9_\-=@,.;]+")


class Kind(NamedTuple):
    """What a channel is by its name."""

    name: str
    """What operators call it: ``public``, ``private``, ``presence``, ``encrypted``, ``inbox``."""
    signed: bool = False
    """Whether subscribing takes a signature."""
    presence: bool = False
    """Whether there is a roster."""
    cached: bool = False
    """Whether the latest event is kept for those who come."""
    inbox: bool = False
    """Whether it is one user's alone."""

    @property
    def client_events(self) -> bool:
        """Whether clients may publish there, where the app lets them."""
        return self.signed


PUBLIC = Kind("public")
INBOXES = Kind("inbox", inbox=True)

_KINDS = (  # the longest prefix first
    ("private-encrypted-cache-", Kind("encrypted", signed=True, cached=True)),
    ("private-encrypted-", Kind("encrypted", signed=True)),
    ("private-cache-", Kind("private", signed=True, cached=True)),
    ("private-", Kind("private", signed=True)),
    ("presence-cache-", Kind("presence", signed=True, presence=True, cached=True)),
    ("presence-", Kind("presence", signed=True, presence=True)),
    ("cache-", Kind("public", cached=True)),
)

_LONGEST_PREFIX = len(_KINDS[0][0])

CACHED = tuple(prefix for prefix, kind in _KINDS if kind.cached)
"""How the names begin of channels that keep their latest event."""


def kind_of(name: str) -> Kind:
    """The kind of a channel, by the name that Pusher's clients have for it, or by its name within a namespace."""
    return _kind_of(name[:_LONGEST_PREFIX])


@lru_cache(4096)
def _kind_of(beginning: str) -> Kind:
    """The same by what says it: clients make up names of any length, which are not kept."""
    if beginning.startswith("#"):
        return INBOXES
    return next((kind for prefix, kind in _KINDS if beginning.startswith(prefix)), PUBLIC)


def is_name(name: str, longest: int = LONGEST_NAME) -> bool:
    """Whether clients may call a channel so; inboxes, which have a form of their own, they may, too."""
    if name.startswith(INBOX):
        return is_user(name.removeprefix(INBOX))
    return len(name) <= longest and _NAME.fullmatch(name) is not None


def is_user(user: str) -> bool:
    """Whether a user may be called so: as channels are, at most 200 characters."""
    return len(user) <= LONGEST_NAME and _NAME.fullmatch(user) is not None


class Names:
    """Names of one namespace's channels, for Pusher's clients and in the gateway."""

    __slots__ = ("prefix",)

    def __init__(self, namespace: str, boundary: str = ":") -> None:
        self.prefix = f"{namespace}{boundary}" if namespace else ""

    def inside(self, name: str) -> str:
        """The gateway's channel by what Pusher's clients call it."""
        if name.startswith(INBOX):
            return f"{self.prefix}#{name[len(INBOX) :]}"
        return self.prefix + name

    def outside(self, channel: str) -> str:
        """What Pusher's clients call a channel of the gateway, which must stand in the namespace."""
        name = channel[len(self.prefix) :]
        return INBOX + name[1:] if name[:1] == "#" else name
