"""Targets: the addresses at which an app wants to be told something, and what."""

from collections.abc import Collection, Mapping
from hashlib import sha256

from gateway.apps.base import App
from gateway.config.masking import masked
from gateway.config.settings.pusher import PusherWebhook

CHANNELS = ("channel_occupied", "channel_vacated")
MEMBERS = ("member_added", "member_removed")


class Target:
    """One address, and the app's webhooks that have it: an event that several of them want is told once."""

    def __init__(self, app: App, url: str, hooks: Collection[PusherWebhook]) -> None:
        self.app = app
        self.url = url
        self.name = sha256(url.encode()).hexdigest()[:16]
        """What its events are kept under; says nothing of the address, which may hold a secret."""
        self.shown = masked(url).partition("?")[0]
        """What a log may have of it."""
        self.headers: Mapping[str, str] = {name: value for hook in hooks for name, value in hook.static_headers.items()}
        self._hooks = hooks

    def wants(self, event: str, channel: str) -> bool:
        return any(_wants(hook, event, channel) for hook in self._hooks)


def targets_of(app: App) -> list[Target]:
    hooks = app.settings.webhooks
    urls = dict.fromkeys(hook.url for hook in hooks)
    return [Target(app, url, [hook for hook in hooks if hook.url == url]) for url in urls]


def is_wanted(app: App, events: Collection[str], channel: str) -> bool:
    """Whether the app is to be told any of these events of a channel."""
    return any(_wants(hook, event, channel) for hook in app.settings.webhooks for event in events)


def _wants(hook: PusherWebhook, event: str, channel: str) -> bool:
    return (not hook.event_types or event in hook.event_types) and channel.startswith(hook.channel_prefix)
