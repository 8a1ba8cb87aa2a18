"""A channel's name, and the options that hold for it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from gateway.config.settings import ChannelOptions, ChannelSettings, PersonalChannelSettings
from gateway.errors import Error, ErrorCode, SettingsError

CACHE_SIZE = 65536
"""Names kept resolved, for server and clients each: some 50 MB at worst.

Refused names are not kept, so nobody can crowd the others out.
"""

NO_PERSONAL_CHANNELS = PersonalChannelSettings()

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


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


Ask = Callable[[ChannelOptions], object]
"""What decides in the channels of a namespace (`session.application.Route`), by its options; None is they alone."""


class Channel(Struct, frozen=True):
    """A name, taken apart.

    ``users`` are those whom the name names, None if it names none: all others are shut out. A personal channel names
    its user alone, a user-limited one those in its list.
    """

    name: str
    options: ChannelOptions
    namespace: str = ""
    private: bool = False
    users: frozenset[str] | None = None
    route: Route | None = None
    """What the program does in the channel (`session.application.Route`)."""
    params: Mapping[str, str] = {}
    """The route's path parameters, as they stand in the name."""
    asks: object = None
    """What decides in the channel (`session.application.Route`) because its namespace says so; a route comes before."""

    def shuts_out(self, user: str) -> bool:
        """Whether the name is for other users alone."""
        return self.users is not None and user not in self.users


class Channels:
    """Finds the options of names. In these, ``history_meta_ttl`` is always set."""

    def __init__(
        self,
        settings: ChannelSettings,
        routes: Sequence[Route] = (),
        personal: PersonalChannelSettings = NO_PERSONAL_CHANNELS,
        ask: Ask | None = None,
    ) -> None:
        self._routes = routes
        self._ask = ask
        self._has_personal = personal.enabled
        self._personal = personal
        self.reload(settings)

    def reload(self, settings: ChannelSettings) -> None:
        """Go by other options from now on; how names are written does not change."""
        self._settings = settings
        personal = self._personal
        self._options = {"": self._complete(settings.without_namespace)}
        self._options.update((namespace.name, self._complete(namespace)) for namespace in settings.namespaces)
        self._patterns = {
            name: re.compile(options.channel_regex) for name, options in self._options.items() if options.channel_regex
        }
        self._asked = {name: self._ask(options) for name, options in self._options.items()} if self._ask else {}
        self._closed: dict[str, ChannelOptions] = {}
        # read out of the models, which answer slowly, for each name that has not been seen
        self._boundary, self._private = settings.namespace_boundary, settings.private_prefix
        namespace = personal.personal_channel_namespace
        self._personal_prefix = f"{namespace}{settings.namespace_boundary if namespace else ''}{settings.user_boundary}"
        self._known = lru_cache(CACHE_SIZE)(self._resolve)
        self._known_to_clients = lru_cache(CACHE_SIZE)(self._resolve_for_client)

    def resolve(self, name: str) -> Channel:
        """The channel that the server names: a token, the server API, the program.

        Raises ``Error``: unknown channel, or bad request for no name, half characters, and control characters outside
        of a user's id.
        """
        # a user's id may be long: not everything is kept
        return self._known(name) if len(name) <= self._settings.max_length else self._resolve(name)

    def resolve_for_client(self, name: str) -> Channel:
        """The channel that a client's command names; raises ``Error`` (bad request) for more names than ``resolve``.

        Clients may use ``max_length`` bytes, no control characters, and what the namespace's ``channel_regex`` allows:
        ASCII without one.
        """
        return self._known_to_clients(name)

    def declared(self) -> list[str]:
        """How names are written: the patterns of routes, and namespaces with the boundary behind them."""
        namespaces = (f"{each.name}{self._settings.namespace_boundary}" for each in self._settings.namespaces)
        return [*(route.text for route in self._routes), *namespaces]

    def all_options(self) -> list[ChannelOptions]:
        """Those of every route and namespace."""
        settings = self._settings
        return [*(route.options for route in self._routes), settings.without_namespace, *settings.namespaces]

    def claim(self, route: Route, name: str) -> Mapping[str, str] | None:
        """The parameters in a name that is the route's, unless one before it takes it; None if it is not."""
        return route.match(name) if self._may_claim(route, name) else None

    def personal(self, user: str) -> str:
        """Name of the user's personal channel: the boundary, and the id as it is. Empty if the user has none."""
        return self._personal_prefix + user if self._personal.enabled and user else ""

    def of_user(self, user: str | int | None) -> str:
        """The channel that all connections of a user hear. Raises ``SettingsError`` if users have none."""
        if not self._personal.enabled:
            raise SettingsError(
                "client.subscribe_to_user_personal_channel.enabled = false: users have no personal channels; set it to "
                "true for all nodes, for example GATEWAY_CLIENT__SUBSCRIBE_TO_USER_PERSONAL_CHANNEL__ENABLED=true, or "
                'Gateway(client={"subscribe_to_user_personal_channel": {"enabled": True}})'
            )
        if user is None or not str(user):
            raise ValueError("anonymous users have no personal channel; for example publish_to_user('7', data)")
        return self.personal(str(user))

    def _complete(self, options: ChannelOptions) -> ChannelOptions:
        return options.model_copy(update={"history_meta_ttl": self._settings.meta_ttl(options)})

    def _resolve(self, name: str) -> Channel:
        if not _bytes(name) or (_CONTROL.search(name) and not self._is_personal(name)):
            raise Error(ErrorCode.BAD_REQUEST)
        return self._find(name)

    def _find(self, name: str) -> Channel:
        for route in self._routes:
            if (params := self.claim(route, name)) is not None:
                options = self._options_for(name, route.key, self._options_of(route))
                return Channel(name, options, route.key, users=self._users(name, options), route=route, params=params)
        namespace, _ = self._split(name)
        options = self._options_for(name, namespace, self._options[namespace])
        private = name.startswith(self._private)
        asked = self._asked.get(namespace)
        return Channel(name, options, namespace, private, self._users(name, options), asks=asked)

    def _resolve_for_client(self, name: str) -> Channel:
        if not 0 < _bytes(name) <= self._settings.max_length or _CONTROL.search(name):
            raise Error(ErrorCode.BAD_REQUEST)
        channel = self._find(name)
        if channel.route is None:
            pattern = self._patterns.get(channel.namespace)
            if not (pattern.search(self._split(name)[1]) if pattern else name.isascii()):
                raise Error(ErrorCode.BAD_REQUEST)
        return channel

    def _split(self, name: str) -> tuple[str, str]:
        """The namespace, and what stands behind it; without namespace that is all. Raises ``Error`` (102)."""
        namespace, boundary, rest = name.removeprefix(self._private).partition(self._boundary)
        if self._is_personal(name) and not self._personal.personal_channel_namespace:
            boundary = ""  # what looks like one is the user's
        if not boundary:
            return "", name
        # A name such as ":x" has an empty namespace, which is not the same as none.
        if not namespace or namespace not in self._options:
            raise Error(ErrorCode.UNKNOWN_CHANNEL)
        return namespace, rest

    def _is_personal(self, name: str) -> bool:
        return self._has_personal and name.startswith(self._personal_prefix)

    def _may_claim(self, route: Route, name: str) -> bool:
        """Private and personal channels are a route's only if it names them: a parameter does not stand for them."""
        settings = self._settings
        if name.startswith(settings.private_prefix) and not route.text.startswith(settings.private_prefix):
            return False
        personal = settings.namespace_boundary + settings.user_boundary
        return (
            personal not in settings.namespace_boundary + name or personal in settings.namespace_boundary + route.text
        )

    def _options_of(self, route: Route) -> ChannelOptions:
        found = self._options.get(route.key)
        if found is None:
            found = self._options[route.key] = self._complete(route.options)
        return found

    def _options_for(self, name: str, key: str, options: ChannelOptions) -> ChannelOptions:
        """A personal channel's history is for subscribers, where that of others may be for everybody."""
        if not (options.allow_history_for_client and self._is_personal(name)):
            return options
        found = self._closed.get(key)
        if found is None:
            closed = {"allow_history_for_client": False, "allow_history_for_subscriber": True}
            found = self._closed[key] = options.model_copy(update=closed)
        return found

    def _users(self, name: str, options: ChannelOptions) -> frozenset[str] | None:
        settings = self._settings
        if self._is_personal(name):  # all of it is one user's id, whatever that holds: no list, and never two users'
            listed = [name.removeprefix(self._personal_prefix)]
        elif options.allow_user_limited_channels and settings.user_boundary in name:
            listed = name.rpartition(settings.user_boundary)[2].split(settings.user_separator)
        else:
            return None
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
