"""A channel's name, and the options that hold for it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.settings import ChannelOptions, ChannelSettings, PersonalChannelSettings, PusherSettings
from gateway.config.settings.section import plain
from gateway.errors import Error, ErrorCode, SettingsError
from gateway.kind_options import KindOptions
from gateway.kinds import Kind

CACHE_SIZE = 65536
"""Names kept resolved, for server and clients each: some 50 MB at worst.

Refused names are not kept, so nobody can crowd the others out.
"""

NO_PERSONAL_CHANNELS = PersonalChannelSettings()

NO_PUSHER = PusherSettings()

NO_PARAMS: Mapping[str, str] = MappingProxyType({})
"""One for all channels that have none."""

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
    params: Mapping[str, str] = NO_PARAMS
    """The route's path parameters, as they stand in the name."""
    asks: object = None
    """What decides in the channel (`session.application.Route`) because its namespace says so; a route comes before."""

    def shuts_out(self, user: str) -> bool:
        """Whether the name is for other users alone."""
        return self.users is not None and user not in self.users


class Terms(Struct):
    """What holds for the names of a namespace or a route: decided once, not for each of them."""

    key: str
    options: ChannelOptions
    of_personal: ChannelOptions
    """Those of personal channels: their history is for subscribers, where that of others may be for everybody."""
    lists_users: bool
    pattern: re.Pattern[str] | None
    """What must stand behind the namespace if a client names it."""
    route: Route | None
    asks: object


class Channels:
    """Finds the options of names. In these, ``history_meta_ttl`` is always set."""

    resolve_for_client: Callable[[str], Channel]
    """The channel that a client's command names; raises ``Error`` (bad request) for more names than ``resolve``.

    Clients may use ``max_length`` bytes, no control characters, and what the namespace's ``channel_regex`` allows:
    ASCII without one.
    """

    def __init__(
        self,
        settings: ChannelSettings,
        routes: Sequence[Route] = (),
        personal: PersonalChannelSettings = NO_PERSONAL_CHANNELS,
        ask: Ask | None = None,
        pusher: PusherSettings = NO_PUSHER,
    ) -> None:
        """``pusher`` says in which channels it is the kind, too, that decides what holds: see `kind_options`."""
        self._routes = routes
        self._ask = ask
        self._has_personal = personal.enabled
        self._may_hide_boundary = personal.enabled and not personal.personal_channel_namespace
        self._personal = personal
        self.reload(settings, pusher)

    def reload(self, settings: ChannelSettings, pusher: PusherSettings) -> None:
        """Go by other options from now on; how names are written does not change."""
        self._settings = settings
        self._kinds = KindOptions(pusher, settings) if pusher.enabled else None
        self._of_kinds: dict[tuple[str, Kind], Terms] = {}
        self._without_namespace = self._terms("", settings.without_namespace)
        self._namespaces = {each.name: self._terms(each.name, each) for each in settings.namespaces}
        self._of_routes: dict[str, Terms] = {}
        # read out of the model, which answers slowly, for each name that has not been seen
        self._max_length = settings.max_length
        self._boundary, self._private = settings.namespace_boundary, settings.private_prefix
        self._user_boundary, self._user_separator = settings.user_boundary, settings.user_separator
        namespace = self._personal.personal_channel_namespace
        self._personal_prefix = f"{namespace}{settings.namespace_boundary if namespace else ''}{settings.user_boundary}"
        self._known = lru_cache(CACHE_SIZE)(self._resolve)
        self.resolve_for_client = lru_cache(CACHE_SIZE)(self._resolve_for_client)

    def resolve(self, name: str) -> Channel:
        """The channel that the server names: a token, the server API, the program.

        Raises ``Error``: unknown channel, or bad request for no name, half characters, and control characters outside
        of a user's id.
        """
        # a user's id may be long: not everything is kept
        return self._known(name) if len(name) <= self._max_length else self._resolve(name)

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
        if (name.startswith(self._private) or self._user_boundary in name) and not self._may_claim(route, name):
            return None
        return route.match(name)

    def personal(self, user: str) -> str:
        """Name of the user's personal channel: the boundary, and the id as it is. Empty if the user has none."""
        return self._personal_prefix + user if self._has_personal and user else ""

    def of_user(self, user: str | int | None) -> str:
        """The channel that all connections of a user hear. Raises ``SettingsError`` if users have none."""
        if not self._has_personal:
            raise SettingsError(
                "client.subscribe_to_user_personal_channel.enabled = false: users have no personal channels; set it to "
                "true for all nodes, for example GATEWAY_CLIENT__SUBSCRIBE_TO_USER_PERSONAL_CHANNEL__ENABLED=true, or "
                'Gateway(client={"subscribe_to_user_personal_channel": {"enabled": True}})'
            )
        if user is None or not str(user):
            raise ValueError("anonymous users have no personal channel; for example publish_to_user('7', data)")
        return self.personal(str(user))

    def _terms(self, key: str, options: ChannelOptions, route: Route | None = None) -> Terms:
        options = options.model_copy(update={"history_meta_ttl": self._settings.meta_ttl(options)})
        closed = {"allow_history_for_client": False, "allow_history_for_subscriber": True}
        return Terms(
            key,
            plain(options),
            plain(options.model_copy(update=closed) if options.allow_history_for_client else options),
            options.allow_user_limited_channels,
            re.compile(options.channel_regex) if options.channel_regex and route is None else None,
            route,
            self._ask(options) if self._ask and route is None else None,
        )

    def _resolve(self, name: str) -> Channel:
        size = len(name) if name.isascii() else _bytes(name)
        # what is printable has no control characters
        if not size or (not name.isprintable() and _CONTROL.search(name) and not self._is_personal(name)):
            raise Error(ErrorCode.BAD_REQUEST)
        return self._find(name)

    def _resolve_for_client(self, name: str) -> Channel:
        size = len(name) if name.isascii() else _bytes(name)
        if not 0 < size <= self._max_length or (not name.isprintable() and _CONTROL.search(name)):
            raise Error(ErrorCode.BAD_REQUEST)
        return self._find(name, by_client=True)

    def _find(self, name: str, *, by_client: bool = False) -> Channel:
        private, params = False, NO_PARAMS
        for route in self._routes:
            if (found := self.claim(route, name)) is not None:
                terms, params = self._of_route(route), found
                break
        else:
            private = name.startswith(self._private)
            terms = self._of_namespace(name, by_client=by_client)
        kind = self._kinds.of(name) if self._kinds is not None else None
        if kind is not None:
            terms = self._of_kind(terms, kind)
        personal = self._has_personal and self._is_personal(name)
        if kind is not None and kind.inbox and not personal:  # one user's, whose id may have a separator in it
            user = name.rpartition(self._boundary)[2].removeprefix(self._user_boundary)
            users: frozenset[str] | None = frozenset({user})
        else:
            users = self._users(name, personal=personal) if personal or terms.lists_users else None
        options = terms.of_personal if personal else terms.options
        return Channel(name, options, terms.key, private, users, terms.route, params, terms.asks)

    def _of_namespace(self, name: str, *, by_client: bool) -> Terms:
        """Raises ``Error``: 102 if there is no such namespace, 107 for what a client may not name in it."""
        namespace, boundary, rest = name.removeprefix(self._private).partition(self._boundary)
        # without a namespace for personal channels, what looks like one in them is the user's
        if not boundary or (self._may_hide_boundary and self._is_personal(name)):
            terms, rest = self._without_namespace, name
        elif namespace in self._namespaces:
            terms = self._namespaces[namespace]
        else:
            raise Error(ErrorCode.UNKNOWN_CHANNEL)
        if by_client and not (terms.pattern.search(rest) if terms.pattern else name.isascii()):
            raise Error(ErrorCode.BAD_REQUEST)
        return terms

    def _of_route(self, route: Route) -> Terms:
        found = self._of_routes.get(route.key)
        if found is None:
            found = self._of_routes[route.key] = self._terms(route.key, route.options, route)
        return found

    def _of_kind(self, terms: Terms, kind: Kind) -> Terms:
        """Those of a namespace or route for its channels of that kind."""
        assert self._kinds is not None
        found = self._of_kinds.get((terms.key, kind))
        if found is None:
            options, of_personal = (
                plain(self._kinds.put_on(each, kind)) for each in (terms.options, terms.of_personal)
            )
            found = self._of_kinds[terms.key, kind] = replace(terms, options=options, of_personal=of_personal)
        return found

    def _is_personal(self, name: str) -> bool:
        return self._has_personal and name.startswith(self._personal_prefix)

    def _users(self, name: str, *, personal: bool) -> frozenset[str] | None:
        if personal:  # all of it is one user's id, whatever that holds: no list, and never two users'
            listed = [name.removeprefix(self._personal_prefix)]
        elif self._user_boundary in name:
            listed = name.rpartition(self._user_boundary)[2].split(self._user_separator)
        else:
            return None
        # The anonymous user has an empty id, which an empty list must not let in.
        return frozenset(listed) - {""}

    def _may_claim(self, route: Route, name: str) -> bool:
        """Private and personal channels are a route's only if it names them: a parameter does not stand for them."""
        if name.startswith(self._private) and not route.text.startswith(self._private):
            return False
        personal = self._boundary + self._user_boundary
        return personal not in self._boundary + name or personal in self._boundary + route.text


def check_names(names: Iterable[str]) -> None:
    """Raises ``TypeError`` for one name where a list is wanted: its letters would be taken for names."""
    if isinstance(names, str):
        raise TypeError(f'channels is a list of names, for example ["{names}"]')


def _bytes(name: str) -> int:
    try:
        return len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate, which JSON can smuggle in
        raise Error(ErrorCode.BAD_REQUEST) from None
