"""What the node tells of to the backends of apps, if anything is to be told."""

from gateway.apps.base import App


class Hooks:
    """Tells nobody. The calls return at once, and raise nothing.

    ``channel`` is what the app's clients call it.
    """

    def client_event(self, app: App, channel: str, event: str, data: bytes, socket_id: str, user: str = "") -> None:
        """A client has published, and that was accepted: ``data`` as JSON; in presence channels ``user`` did."""

    def cache_miss(self, app: App, channel: str, period: str) -> None:
        """Somebody subscribed to a cache channel without an event: ``period`` names the time for which it has none."""

    def subscription_count(self, app: App, channel: str, count: int) -> None:
        """So many connections subscribe to a channel now, on all nodes. Each of these may tell."""
