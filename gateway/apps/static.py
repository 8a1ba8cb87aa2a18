"""The apps that the settings name, and their file."""

from collections.abc import Iterator

from gateway.apps.base import App
from gateway.config.settings import PusherApp, PusherSettings
from gateway.kinds import Names


class Directory:
    """Apps by all that one may be found by. An app that is entered anew stays the same object.

    So those who are connected go by its new settings, and those of an app that is removed see that it is not enabled.
    """

    __slots__ = ("_boundary", "_by_key", "_by_namespace", "_default", "by_id")

    def __init__(self, settings: PusherSettings, boundary: str) -> None:
        self._default, self._boundary = settings.namespace, boundary
        self.by_id: dict[str, App] = {}
        self._by_key: dict[str, App] = {}
        self._by_namespace: dict[str, App] = {}

    def enter(self, settings: PusherApp) -> App:
        namespace = self.namespace_of(settings)
        app = self.by_id.get(settings.id)
        if app is not None:
            self._forget(app)
            if self._namespace(app) != namespace:  # who is connected is in channels of the former
                self._close(app)
                app = None
        if app is None:
            app = App(settings, Names(namespace, self._boundary))
        app.settings = settings
        self.by_id[settings.id] = self._by_namespace[namespace] = app
        self._by_key.update(dict.fromkeys(keys_of(settings), app))
        return app

    def remove(self, app: App) -> None:
        self._forget(app)
        self._close(app)

    def by_key(self, key: str) -> App | None:
        return self._by_key.get(key)

    def in_namespace(self, namespace: str) -> App | None:
        return self._by_namespace.get(namespace)

    def of_channel(self, channel: str) -> App | None:
        return self._by_namespace.get(channel.rpartition(self._boundary)[0])

    def namespace_of(self, settings: PusherApp) -> str:
        return self._default if settings.namespace is None else settings.namespace

    def _namespace(self, app: App) -> str:
        return app.names.prefix.removesuffix(self._boundary)

    def _forget(self, app: App) -> None:
        del self.by_id[app.id]
        if self._by_namespace.get(namespace := self._namespace(app)) is app:
            del self._by_namespace[namespace]
        for key in keys_of(app.settings):
            if self._by_key.get(key) is app:  # else it is another's already
                del self._by_key[key]

    def _close(self, app: App) -> None:
        app.settings = app.settings.model_copy(update={"enabled": False})


class StaticApps:
    """Satisfies `Apps` for what the settings say."""

    __slots__ = ("_apps",)

    def __init__(self, settings: PusherSettings, boundary: str = ":") -> None:
        self._apps = Directory(settings, boundary)
        self.reload(settings)

    def reload(self, settings: PusherSettings) -> None:
        """Have other apps from now on."""
        there = {app.id for app in settings.apps}
        for app in [app for app in self._apps.by_id.values() if app.id not in there]:
            self._apps.remove(app)
        for each in settings.apps:
            self._apps.enter(each)

    def known(self, key: str) -> App | None:
        return self._apps.by_key(key)

    async def find(self, key: str) -> App | None:
        return self.known(key)

    def by_id(self, app_id: str) -> App | None:
        return self._apps.by_id.get(app_id)

    def in_namespace(self, namespace: str) -> App | None:
        return self._apps.in_namespace(namespace)

    def of_channel(self, channel: str) -> App | None:
        return self._apps.of_channel(channel)


def keys_of(settings: PusherApp) -> Iterator[str]:
    """The keys by which clients may name the app."""
    yield settings.key
    yield from (each.key for each in settings.former_keys)
