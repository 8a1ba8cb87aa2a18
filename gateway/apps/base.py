"""Where apps of the Pusher protocol come from."""

from collections.abc import Awaitable
from typing import Protocol

from gateway.config.settings.pusher import PusherApp
from gateway.kinds import Names


class App:
    """An app as the node has it: what its settings say, and what is decided of them once.

    Other settings hold for those who are connected, too: an app that is gone is one that is not enabled.
    """

    __slots__ = ("names", "settings")

    def __init__(self, settings: PusherApp, names: Names) -> None:
        self.settings = settings
        self.names = names
        """What its channels are called here."""

    @property
    def id(self) -> str:
        return self.settings.id

    def secret(self, key: str) -> str | None:
        """The secret of one of its keys, None for a key of somebody else's."""
        if key == self.settings.key:
            return self.settings.secret
        return next((each.secret for each in self.settings.former_keys if each.key == key), None)


class Apps(Protocol):
    """The apps that there are. What is asked of a loader is asked once by all who ask at a time."""

    def known(self, key: str) -> App | None:
        """The app with this key, also a former one, if it is known without asking anybody."""

    def find(self, key: str) -> Awaitable[App | None]:
        """The same, having asked whoever may know; None if there is none.

        Raises ``Error`` (100, internal) if that cannot be said just now.
        """

    def by_id(self, app_id: str) -> App | None:
        """The app with this id, of those that are known, however long ago anybody was asked for it."""

    def of_channel(self, channel: str) -> App | None:
        """The app, of those that are known, in whose namespace a channel of the gateway stands."""
