"""Apps that the program knows: it is asked for each when somebody comes with a key, and believed for a while.

Anybody can invent keys: those that there are not are kept for seconds, and not many of them. While the program fails,
what it has said last still holds.
"""

import asyncio
import logging
import re
import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from msgspec import Struct

from gateway.apps.base import App
from gateway.apps.static import Directory, StaticApps, keys_of
from gateway.config.settings import PusherApp, PusherSettings
from gateway.errors import Error, ErrorCode
from gateway.kind_options import namespaces_of_apps
from gateway.kinds import is_name
from gateway.recurring import Recurring

Load = Callable[[str], Awaitable[PusherApp | None]]
"""Gives the app with a key, also a former one; None if there is none."""

TIMEOUT = 5.0
"""Seconds that the program may take: clients wait no longer than fifteen for a first message."""

UNKNOWN_TTL = 5.0
"""Seconds that a key is known to be nobody's: soon after an app has been made its clients should get in."""

MOST_UNKNOWN = 1024
"""Keys that are known to be nobody's."""

RETRY = 1.0
"""Seconds after which a program that has failed is asked again about an app that is believed meanwhile."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = logging.getLogger(__name__)


class Answer(Struct):
    """What asking has come to."""

    app: App | None = None
    failed: bool = False


class LoadedApps:
    """Satisfies `Apps` for those of the settings, and behind them those of the program."""

    def __init__(
        self,
        load: Load,
        static: StaticApps,
        settings: PusherSettings,
        boundary: str = ":",
        *,
        clock: Callable[[], float] = time.monotonic,
        refusals: Recurring | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._load = load
        self._static = static
        self._apps = Directory(settings, boundary)
        self._boundary = boundary
        self._clock = clock
        self._refusals = refusals or Recurring(log, clock)
        self._timeout = timeout
        self._until: dict[str, float] = {}
        """How long each app is believed, by its id."""
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._settings = settings
        self._namespaces = namespaces_of_apps(settings, boundary)

    def reload(self, settings: PusherSettings) -> None:
        """Go by other settings: what the program has said is asked for anew."""
        self._static.reload(settings)
        self._settings = settings
        self._namespaces = namespaces_of_apps(settings, self._boundary)
        self._until.clear()
        self._unknown.clear()

    def known(self, key: str) -> App | None:
        if (found := self._static.known(key)) is not None:
            return found
        found = self._apps.by_key(key)
        return found if found is not None and self._is_believed(found) else None

    async def find(self, key: str) -> App | None:
        if (found := self.known(key)) is not None:
            return found
        if self._unknown.get(key, 0.0) > self._clock() or not _KEY.fullmatch(key):
            return None
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        answer = await asyncio.shield(task)  # who goes away leaves it to the others
        if answer.failed:
            raise Error(ErrorCode.INTERNAL)
        return answer.app

    def by_id(self, app_id: str) -> App | None:
        return self._static.by_id(app_id) or self._apps.by_id.get(app_id)

    def of_channel(self, channel: str) -> App | None:
        return self._static.of_channel(channel) or self._apps.of_channel(channel)

    def _is_believed(self, app: App) -> bool:
        return self._until.get(app.id, 0.0) > self._clock()

    async def _ask(self, key: str) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                given = await self._load(key)
        except Exception as error:
            return self._stale(key, error)
        self._refusals.over("pusher_loader", "pusher: the program tells of apps again")
        if given is None:
            self._forget(key)
            self._know_as_nobodys(key)
            return Answer()
        wrong = self._problem_of(key, given)
        if wrong:
            self._refusals.happened("pusher_app", "pusher: an app of the program is refused: %s", wrong, reason=wrong)
            self._forget(key)
            return Answer(failed=True)
        self._make_room(given)
        self._until[given.id] = self._clock() + self._settings.app_ttl
        self._unknown.pop(key, None)
        return Answer(self._apps.enter(given))

    def _stale(self, key: str, error: Exception) -> Answer:
        """What the program has said before, since it says nothing now."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {where.name}, line {where.lineno} of {where.filename}"
        if isinstance(error, TimeoutError):
            what = f"no answer within {self._timeout:g} s"
        self._refusals.happened("pusher_loader", "pusher: the program does not tell of apps: %s", what, reason=what)
        app = self._apps.by_key(key)
        if app is None:
            return Answer(failed=True)
        self._until[app.id] = max(self._until.get(app.id, 0.0), self._clock() + RETRY)
        return Answer(app)

    def _forget(self, key: str) -> None:
        """There is no app with this key, or no good one."""
        app = self._apps.by_key(key)
        if app is not None and key == app.settings.key:
            self._apps.remove(app)
            self._until.pop(app.id, None)
        elif app is not None:
            others = tuple(each for each in app.settings.former_keys if each.key != key)
            self._apps.enter(app.settings.model_copy(update={"former_keys": others}))

    def _know_as_nobodys(self, key: str) -> None:
        self._unknown[key] = self._clock() + UNKNOWN_TTL
        self._unknown.move_to_end(key)
        if len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def _make_room(self, given: PusherApp) -> None:
        """Remove apps that are gone, and whose id is not the one that has their namespace or keys now."""
        for other in self._rivals(given):
            self._apps.remove(other)
            self._until.pop(other.id, None)

    def _rivals(self, given: PusherApp) -> list[App]:
        found = (self._apps.in_namespace(self._apps.namespace_of(given)), *map(self._apps.by_key, keys_of(given)))
        return list({app.id: app for app in found if app is not None and app.id != given.id}.values())

    def _problem_of(self, key: str, given: object) -> str:
        """Why it is none of the apps that there may be; empty if nothing is wrong."""
        if not isinstance(given, PusherApp):
            return f'it is a {type(given).__name__}: give gateway.PusherApp(id="9001", key=key, secret="…"), or None'
        static, keys = self._static, [*keys_of(given)]
        if key not in keys:
            return f'the app "{given.id}" does not have the key that was asked for: give the one that has it, or None'
        if static.by_id(given.id) or any(map(static.known, keys)):
            return f'the app "{given.id}" has the id or a key of one in the settings: give it others'
        namespace = self._apps.namespace_of(given)
        first, *others = namespace.split(self._boundary)
        if first not in self._namespaces or not all(map(is_name, others)):
            return (
                f'the namespace "{namespace}" of the app "{given.id}" is not where apps are: set pusher.namespace = '
                f'"{first}", with such a namespace in channel.namespaces, or give the app one within '
                f'"{min(self._namespaces)}"'
            )
        taken = static.in_namespace(namespace)
        rivals = [app for app in self._rivals(given) if self._is_believed(app)]
        if taken or rivals:
            other = taken.id if taken else rivals[0].id
            return f'the app "{given.id}" has the namespace or a key of "{other}": give each app its own'
        return ""


def open_apps(
    settings: PusherSettings,
    load: Load | None = None,
    boundary: str = ":",
    *,
    clock: Callable[[], float] = time.monotonic,
    refusals: Recurring | None = None,
) -> StaticApps | LoadedApps:
    """Those of the settings, and with ``load`` those that the program knows."""
    static = StaticApps(settings, boundary)
    return static if load is None else LoadedApps(load, static, settings, boundary, clock=clock, refusals=refusals)
