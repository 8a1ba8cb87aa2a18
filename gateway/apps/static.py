"""The apps of the settings."""

from gateway.apps.base import App
from gateway.config.settings import PusherSettings
from gateway.kinds import Names


class StaticApps:
    """All that there are. Satisfies `Apps`."""

    def __init__(self, settings: PusherSettings, boundary: str = ":") -> None:
        self._apps = [App(each, Names(settings.namespace_of(each), boundary)) for each in settings.apps]

    def known(self, key: str) -> App | None:
        return next((each for each in self._apps if each.secret(key) is not None), None)

    async def find(self, key: str) -> App | None:
        return self.known(key)

    def by_id(self, app_id: str) -> App | None:
        return next((each for each in self._apps if each.id == app_id), None)

    def of_channel(self, channel: str) -> App | None:
        return next((each for each in self._apps if each.names.has(channel)), None)
