"""A channel's name, and the options that hold for it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Struct

from gateway.config.settings import ChannelOptions, ChannelSettings, PersonalChannelSettings
from gateway.errors import Error, ErrorCode, SettingsError

CACHE_SIZE = 65536
"""Names kept resolved: some 50 MB at worst. Refused names are not kept, so nobody can crowd the others out."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Channel(Struct, frozen=True):
    """A name, taken apart. ``users`` are those who may subscribe to a user-limited channel, else None."""

    name: str
    options: ChannelOptions
    namespace: str = ""
    private: bool = False
    users: frozenset[str] | None = None
    route: Any = None
    """What the program does in the channel (`session.application.Route`)."""
    params: Mapping[str, str] = {}
    """The route's path parameters, as they stand in the name."""


class Route(Protocol):
    """Channels of the program, by their names; they come before the settings' namespaces."""

    @property
    def key(self) -> str:
        """Names the options, as a namespace does; no namespace has this name."""

    @property
    def text(self) -> str:
        """How the names are written, as in ``chat:{room}``."""

    @property
    def options(self) -> ChannelOptions: ...

    def match(self, name: str) -> Mapping[str, str] | None:
        """The parameters that stand in a name, None if it is not one of the route's."""


class Channels:
    """Finds the options of names. In these, ``history_meta_ttl`` is always set."""

    def __init__(self, settings: ChannelSettings, routes: Sequence[Route] = ()) -> None:
        self._settings = settings
        self._routes = routes
        self._options = {"": self._complete(settings.without_namespace)}
        self._options.update((namespace.name, self._complete(namespace)) for namespace in settings.namespaces)
        self._patterns = {
            name: re.compile(options.channel_regex) for name, options in self._options.items() if options.channel_regex
        }
        self._cached = lru_cache(CACHE_SIZE)(self._resolve)

    def resolve(self, name: str) -> Channel:
        """The channel of this name. Raises ``Error``: unknown channel, or bad request for a name not allowed."""
        return self._cached(name)

    def personal(self, user: str, namespace: str = "") -> str:
        """Name of the user's personal channel."""
        settings = self._settings
        return f"{namespace}{settings.namespace_boundary if namespace else ''}{settings.user_boundary}{user}"

    def of_user(self, user: str | int, personal: PersonalChannelSettings) -> str:
        """The channel that all connections of a user hear. Raises ``SettingsError`` if users have none."""
        if not personal.enabled:
            raise SettingsError(
                "client.subscribe_to_user_personal_channel.enabled = false: users have no personal channels; set it to "
                "true for all nodes, for example GATEWAY_CLIENT__SUBSCRIBE_TO_USER_PERSONAL_CHANNEL__ENABLED=true, or "
                'Gateway(client={"subscribe_to_user_personal_channel": {"enabled": True}})'
            )
        if not str(user):
            raise ValueError("anonymous users have no personal channel; for example publish_to_user('7', data)")
        return self.personal(str(user), personal.personal_channel_namespace)

    def _complete(self, options: ChannelOptions) -> ChannelOptions:
        if options.history_meta_ttl:
            return options
        return options.model_copy(update={"history_meta_ttl": self._settings.history_meta_ttl})

    def _resolve(self, name: str) -> Channel:
        settings = self._settings
        if not name or _bytes(name) > settings.max_length or _CONTROL.search(name):
            raise Error(ErrorCode.BAD_REQUEST)
        for route in self._routes:
            if self._may_claim(route, name) and (params := route.match(name)) is not None:
                options = self._ruled(route)
                return Channel(name, options, route.key, users=self._users(name, options), route=route, params=params)
        private = name.startswith(settings.private_prefix)
        namespace, boundary, rest = name.removeprefix(settings.private_prefix).partition(settings.namespace_boundary)
        if not boundary:
            namespace, rest = "", name
        # A name such as ":x" has an empty namespace, which is not the same as none.
        if (boundary and not namespace) or namespace not in self._options:
            raise Error(ErrorCode.UNKNOWN_CHANNEL)
        pattern = self._patterns.get(namespace)
        if not (pattern.search(rest) if pattern else name.isascii()):
            raise Error(ErrorCode.BAD_REQUEST)
        options = self._options[namespace]
        return Channel(name, options, namespace, private, self._users(name, options))

    def _may_claim(self, route: Route, name: str) -> bool:
        """Private and personal channels are a route's only if it names them: a parameter does not stand for them."""
        settings = self._settings
        if name.startswith(settings.private_prefix) and not route.text.startswith(settings.private_prefix):
            return False
        personal = settings.namespace_boundary + settings.user_boundary
        return (
            personal not in settings.namespace_boundary + name or personal in settings.namespace_boundary + route.text
        )

    def _ruled(self, route: Route) -> ChannelOptions:
        found = self._options.get(route.key)
        if found is None:
            found = self._options[route.key] = self._complete(route.options)
        return found

    def _users(self, name: str, options: ChannelOptions) -> frozenset[str] | None:
        if not options.allow_user_limited_channels or self._settings.user_boundary not in name:
            return None
        listed = name.rpartition(self._settings.user_boundary)[2].split(self._settings.user_separator)
        # The anonymous user has an empty id, which an empty list must not let in.
        return frozenset(listed) - {""}


def check_names(names: Iterable[str]) -> None:
    """Raises ``TypeError`` for one name where a list is wanted: its letters would be taken for names."""
    if isinstance(names, str):
        raise TypeError(f'channels is a list of names, for example ["{names}"]')


def _bytes(name: str) -> int:
    try:
        return len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can smuggle in
        raise Error(ErrorCode.BAD_REQUEST) from None
