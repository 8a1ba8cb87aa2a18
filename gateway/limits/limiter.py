"""What clients of a node may ask for, and what becomes of those who ask for more. The settings are client.rate_limit.

Each connection, user and address has an account. Who is over a limit is refused, counted, and named in the log
(`recurring`); what a client is answered is for whoever asks here.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from gateway.config.settings import (
    AddressCommandLimits,
    ClientCommandLimits,
    ClientSettings,
    RateLimitSettings,
    SharedCommandLimits,
    UserCommandLimits,
)
from gateway.config.settings.limits import read_buckets
from gateway.errors import BrokerUnavailable
from gateway.limits.addresses import NOWHERE, Network
from gateway.limits.base import LimitStore, Rate
from gateway.limits.buckets import Account, Accounts, Kind, Rules
from gateway.messages import (
    ConnectRequest,
    HistoryRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.metrics import Metrics
from gateway.recurring import Address, Recurring

COMMANDS: dict[str, type[Any]] = {
    "connect": ConnectRequest,
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "publish": PublishRequest,
    "history": HistoryRequest,
    "presence": PresenceRequest,
    "presence_stats": PresenceStatsRequest,
    "refresh": RefreshRequest,
    "sub_refresh": SubRefreshRequest,
    "rpc": RPCRequest,
}
"""By the names that settings and metrics have for them."""

BYTES = "bytes"
"""What a frame costs, and is a kind like a command."""

ERRORS = "error"

MISSES = "miss"
"""Commands by HTTP of an address for sessions of which another node has said that it has none: as many may come as
connections."""

_NAMES: dict[Kind, str] = {**{kind: name for name, kind in COMMANDS.items()}, BYTES: BYTES, ERRORS: ERRORS}
_NAMES[MISSES] = _NAMES[ConnectRequest]  # whose setting it is

PUBLIC_CONNECTIONS = 5000
"""Open connections of one address of the public Internet, unless client.address_connection_limit says: more than any
company or dormitory has behind one, and a third of what a node carries."""

log = logging.getLogger(__name__)


class Layers(Struct, frozen=True):
    """What holds for a client. Each is asked in turn; what the one before has let through is spent there."""

    connection: Rules | None
    user: Rules | None
    address: Rules | None
    errors: Rules | None
    shared: Mapping[Kind, tuple[Rate, ...]]
    """Rates that the engine keeps, for all nodes."""
    shared_dry_run: bool
    connections: int
    """Open ones of an address; 0 is without limit."""


class Spender:
    """One connection, as limits see it. Its accounts are made when it has something to spend."""

    __slots__ = ("commands", "errors", "network")

    def __init__(self, network: Network = NOWHERE) -> None:
        self.network = network
        self.commands: Account | None = None
        self.errors: Account | None = None

    def of_commands(self) -> Account:
        if self.commands is None:
            self.commands = Account()
        return self.commands

    def of_errors(self) -> Account:
        if self.errors is None:
            self.errors = Account()
        return self.errors


class Limiter:
    """The limits of one node. Nothing in it waits but for ``shared``."""

    def __init__(
        self,
        client: ClientSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        refusals: Recurring | None = None,
    ) -> None:
        self.store: LimitStore | None = None
        """Keeps what users have spent on all nodes, where that is asked for."""
        self._metrics = metrics
        self._clock = clock
        self._users = Accounts()
        self._addresses = Accounts()
        self._open: defaultdict[str, int] = defaultdict(int)
        """Connections by network."""
        self._refusals = refusals or Recurring(log, clock)
        self._asked: tuple[RateLimitSettings, int | None] | None = None
        self.configure(client)

    def configure(self, client: ClientSettings) -> None:
        """Go by these settings from now on, for clients that are here as well.

        Accounts begin anew only if these are others than before.
        """
        asked = client.rate_limit, client.address_connection_limit
        if asked == self._asked:
            return
        self._asked = asked
        self._private, self._public = _layers(client)
        self._private_commands, self._public_commands = map(_limits_commands, (self._private, self._public))

    def layers(self, network: Network) -> Layers:
        return self._public if network.public else self._private

    def of_commands(self, network: Network) -> Layers | None:
        """What holds for a client's commands, None if that is nothing."""
        return self._public_commands if network.public else self._private_commands

    # — connections —

    def is_full(self, network: Network) -> bool:
        """Whether an address has as many connections as it may have."""
        most = (self._public if network.public else self._private).connections
        return most > 0 and self._open.get(network.name, 0) >= most

    def wait(self, network: Network) -> float:
        """Seconds after which an address may connect once more; 0 if that is now, and then it has done so."""
        rules = (self._public if network.public else self._private).address
        if rules is None or not network.name:
            return 0.0
        now, account = self._clock(), self._account(rules, network)
        if account.take(rules, ConnectRequest, now):
            return 0.0
        self._metrics.over_limit[rules.layer, "connect", rules.dry_run] += 1
        return 0.0 if rules.dry_run else account.wait(rules, ConnectRequest, now)

    def enter(self, network: Network) -> None:
        """A connection is open; ``leave`` says that it is no more."""
        if network.name:
            self._open[network.name] += 1

    def leave(self, network: Network) -> None:
        if network.name:
            left = self._open[network.name] - 1
            if left:
                self._open[network.name] = left
            else:
                del self._open[network.name]

    def admits(self, spender: Spender, user: str) -> bool:
        """Whether a user may connect once more."""
        rules = self.layers(spender.network).user
        return rules is None or self._take_user(rules, spender, user, ConnectRequest, 1)

    # — commands —

    def may_search(self, network: Network) -> bool:
        """Whether another node may be asked for one more session; it is free, unless it has been `missed`."""
        rules = self.layers(network).address
        if rules is None or not network.name:
            return True
        waits = self._account(rules, network).wait(rules, MISSES, self._clock())
        return waits <= 0 or not self._counts(rules, MISSES, network.name)

    def missed(self, network: Network) -> None:
        """Another node has been asked, and has no such session."""
        rules = self.layers(network).address
        if rules is not None and network.name:
            self._account(rules, network).drain(rules, MISSES, self._clock())

    def allows(self, layers: Layers, spender: Spender, user: str, kind: Kind, cost: int = 1) -> bool:
        """Whether a command of this kind, or so many bytes, may be had; what it costs is spent then."""
        # commands pay for each call in here
        rules, name, now = layers.connection, spender.network.name, self._clock()
        if rules is not None:
            account = spender.commands or spender.of_commands()
            if kind is UnsubscribeRequest:
                account.drain(rules, kind, now)
            elif not account.take(rules, kind, now, cost) and self._counts(rules, kind, name):
                return False
        rules = layers.user
        if rules is not None and not self._take_user(rules, spender, user, kind, cost):
            return False
        rules = layers.address
        if rules is None or not name or kind not in rules.of:
            return True
        return self._spend(rules, self._addresses.of(name, rules.longest, now), kind, now, cost, name)

    async def shared(self, layers: Layers, user: str, kind: Kind) -> bool:
        """Whether a user may give one more command of this kind, on whatever node. True while nobody can tell."""
        rates = layers.shared.get(kind, ())
        if not user or self.store is None:
            return True
        try:
            for number, rate in enumerate(rates):
                outcome = await self.store.take(f"command:{_NAMES[kind]}:{number}", user, rate, 1)
                if not outcome.allowed:
                    return not self._count("redis_user_command", kind, layers.shared_dry_run, f"user {user}")
        except BrokerUnavailable:
            log.debug("limits of users cannot be asked, so that all is allowed")
        return True

    def bears(self, spender: Spender) -> bool:
        """Whether one more error of a connection can be borne; if not, it is to be closed."""
        rules = self.layers(spender.network).errors
        if rules is None or spender.of_errors().take(rules, ERRORS, self._clock()):
            return True
        return not self._counts(rules, ERRORS, spender.network.name)

    # — accounts —

    def _take_user(self, rules: Rules, spender: Spender, user: str, kind: Kind, cost: int) -> bool:
        """Who has no user counts by address: one budget for all of these would be a gift to whoever empties it."""
        if kind not in rules.of:
            return True
        name = spender.network.name
        key = f"user:{user}" if user else f"ip:{name}"
        if not (user or name):
            return True
        now = self._clock()
        return self._spend(rules, self._users.of(key, rules.longest, now), kind, now, cost, key)

    def _account(self, rules: Rules, network: Network) -> Account:
        return self._addresses.of(network.name, rules.longest, self._clock())

    def _spend(self, rules: Rules, account: Account, kind: Kind, now: float, cost: int, who: str) -> bool:
        if kind is UnsubscribeRequest:  # refused, an SDK would connect anew, which costs more
            account.drain(rules, kind, now)
            return True
        return account.take(rules, kind, now, cost) or not self._counts(rules, kind, who)

    # — refusals —

    def _counts(self, rules: Rules, kind: Kind, who: str) -> bool:
        return self._count(rules.layer, kind, rules.dry_run, who)

    def _count(self, layer: str, kind: Kind, dry_run: bool, who: str) -> bool:
        """Count somebody over a limit, and say whether it is to be refused."""
        command = _NAMES[kind]
        self._metrics.over_limit[layer, command, dry_run] += 1
        if not dry_run and kind is not ERRORS:  # the connection is closed for those, with a line of its own
            limit = f"client.rate_limit.{layer}.{command}"
            shown = f"{who!a:.100}" if "user" in layer else Address(who)
            self._refusals.happened("rate_limit", "%s: command refused: over %s", shown, limit, reason=limit)
        return not dry_run


# — settings —


def _layers(client: ClientSettings) -> tuple[Layers, Layers]:
    """What holds for private addresses, and for public ones. The rules are the same: accounts go by them."""
    limits, most = client.rate_limit, client.address_connection_limit
    connection = _rules("client_command", limits.client_command)
    address = _rules("address_command", limits.address_command)
    errors = Rules("client_error", {ERRORS: limits.client_error.total}, dry_run=limits.client_error.dry_run)
    user = _rules("user_command", limits.user_command) if limits.user_command.enabled else None
    shared = _shared(limits.redis_user_command) if limits.redis_user_command.enabled else {}

    def layers(public: bool) -> Layers:
        def holds(enabled: bool | None) -> bool:
            return public if enabled is None else enabled

        return Layers(
            connection=connection if holds(limits.client_command.enabled) else None,
            user=user,
            address=address if holds(limits.address_command.enabled) else None,
            errors=errors if errors.of and holds(limits.client_error.enabled) else None,
            shared=shared,
            shared_dry_run=limits.redis_user_command.dry_run,
            connections=(PUBLIC_CONNECTIONS if public else 0) if most is None else most,
        )

    return layers(False), layers(True)


def _limits_commands(layers: Layers) -> Layers | None:
    return layers if layers.connection or layers.user or layers.address or layers.shared else None


def _rules(layer: str, limits: UserCommandLimits | ClientCommandLimits) -> Rules | None:
    """What of a layer's rates there is, None if there is nothing."""
    rates: dict[Kind, str] = {BYTES: limits.bytes}
    for name, kind in COMMANDS.items():
        if hasattr(limits, name):
            rates[kind] = getattr(limits, name) or limits.default
    apart: tuple[Kind, ...] = (BYTES,)
    if isinstance(limits, AddressCommandLimits):
        # of an address, new connections are refused before they cost anything, and have a rate of their own
        apart = BYTES, ConnectRequest, MISSES
        rates[MISSES] = rates[ConnectRequest]
    rules = Rules(layer, rates, total=limits.total, apart=apart, dry_run=limits.dry_run)
    return rules if rules.of else None


def _shared(limits: SharedCommandLimits) -> dict[Kind, tuple[Rate, ...]]:
    found: dict[Kind, tuple[Rate, ...]] = {}
    for name, kind in COMMANDS.items():
        buckets = read_buckets(getattr(limits, name, "") or limits.default) if name != "unsubscribe" else []
        if buckets:
            found[kind] = tuple(Rate(max(1, round(interval * 1e6 / rate)), rate) for rate, interval in buckets)
    return found
