"""Settings of the Pusher protocol: apps, and what holds for all of them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.durations import Duration
from gateway.config.settings.section import Section

EventType = Literal[
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
]

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]


class PusherWebhook(Section):
    """Where an app's events are told."""

    url: str = Field(pattern=r"^https?://\S+$", examples=["https://example.com/pusher/webhooks"])
    """Where they are posted."""
    event_types: tuple[EventType, ...] = ()
    """Which of them; empty is all that the app has."""
    channel_prefix: str = ""
    """Only of channels whose names begin so, as ``presence-``."""
    headers: Mapping[str, str] = Field(default={}, examples=[{"Authorization": "Bearer …"}])
    """Sent with each request."""


class PusherKey(Section):
    """A key and its secret."""

    key: Key = Field(examples=["f3c4b2a1d0e9"])
    """Named by clients."""
    secret: str = Field(min_length=1, examples=["7f0e3c9b5d214a68"])
    """Signs; known to the backend alone."""


class PusherApp(Section):
    """An app of the Pusher protocol: who may connect by its key, and what holds for its channels."""

    id: Id = Field(examples=["9001"])
    """Named by backends, in the address of the HTTP API: digits, for some of their libraries take no other."""
    key: Key = Field(examples=["f3c4b2a1d0e9"])
    """Named by clients, in the address of the WebSocket."""
    secret: str = Field(min_length=1, examples=["7f0e3c9b5d214a68"])
    """Signs what the backend allows; known to it alone."""
    former_keys: tuple[PusherKey, ...] = Field(default=(), examples=[[{"key": "a1b2c3", "secret": "0d1e2f"}]])
    """Other keys that are good still, while they are being replaced."""
    namespace: str | None = None
    """Where its channels stand in the gateway, as ``shop`` for ``shop:private-orders.7``; None is pusher.namespace."""
    enabled: bool = True
    """Let clients connect, and take what backends send."""
    allowed_origins: tuple[str, ...] = Field(default=(), examples=[["https://*.example.com"]])
    """Pages that may connect, if not those of client.allowed_origins; clients without an origin always may."""
    max_connections: int = Field(default=0, ge=0)
    """Most connections, on all nodes together; 0 is without limit."""
    enable_client_messages: bool = False
    """Let subscribers of private and presence channels publish client events."""
    max_client_events_per_second: int = Field(default=10, ge=0)
    """Most client events of a connection in a second; 0 is without limit."""
    enable_user_authentication: bool = True
    """Let clients sign in as users."""
    enable_watchlists: bool = False
    """Tell clients who sign in which users of their watchlist are online."""
    enable_subscription_counts: bool = False
    """Tell subscribers how many there are; takes pusher.subscription_counts, too."""
    authorization_timeout: Duration = 0
    """Close connections that neither sign in nor join a private or presence channel in time; 0 is never."""
    max_event_size: int = Field(default=10_240, ge=1, le=1_048_576)
    """Largest data of an event, in bytes."""
    max_event_name_length: int = Field(default=200, ge=1, le=1000)
    """Longest name of an event."""
    max_channel_name_length: int = Field(default=200, ge=16, le=200)
    """Longest name of a channel."""
    max_event_channels: int = Field(default=100, ge=1, le=1000)
    """Most channels of one publish."""
    max_event_batch_size: int = Field(default=10, ge=1, le=1000)
    """Most events of one batch."""
    max_presence_members: int = Field(default=100, ge=1, le=100_000)
    """Most users of a presence channel."""
    max_presence_member_size: int = Field(default=2048, ge=64, le=65_536)
    """Largest channel_data of a member, in bytes."""
    webhooks: tuple[PusherWebhook, ...] = Field(default=(), examples=[[{"url": "https://example.com/webhooks"}]])
    """Where its events are told."""


class PusherWebhookSettings(Section):
    """How webhooks are sent."""

    batch_size: int = Field(default=1, ge=1, le=250)
    """Most events of one request, whose ids are in one of its headers."""
    vacated_delay: Duration = 3
    """How long a channel or member may be gone before that is told; who returns meanwhile has not been away."""
    timeout: Duration = 5
    """For one request."""
    retry_for: Duration = Field(default=280, le=290)
    """How long one is tried again, then it is put aside; receivers refuse what is older than five minutes."""
    dead_letters: int = Field(default=1000, ge=0)
    """How many are kept that could not be sent, for each app."""


class PusherSettings(Section):
    """The Pusher protocol, for pusher-js and Laravel Echo: /app/{key}, and /apps/{id}/… for backends."""

    enabled: bool = False
    """Serve it."""
    namespace: str = ""
    """Where the channels of apps stand that name no namespace; empty is without one."""
    apps: tuple[PusherApp, ...] = Field(
        default=(), examples=[[{"id": "9001", "key": "f3c4b2a1d0e9", "secret": "7f0e3c9b5d214a68"}]]
    )
    """The apps."""
    apps_file: str = Field(default="", examples=["/etc/gateway/apps.json"])
    """A file with more of them: JSON, YAML or TOML with a list ``apps``; read anew at a reload."""
    app_ttl: Duration = 60
    """How long an app is believed that the program has given."""
    activity_timeout: Duration = Field(default=60, ge=10, le=3600)
    """After how much silence clients ask whether the connection is alive."""
    cache_ttl: Duration = 1800
    """How long cache channels keep their latest event, unless the namespace has a history of its own."""
    subscription_counts: bool = False
    """Count the connections of every channel in the namespaces of apps: for apps that tell them."""
    webhooks: PusherWebhookSettings = PusherWebhookSettings()
    """How webhooks are sent."""
