"""Settings of the Pusher protocol: apps, and what holds for all of them."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gateway.config.durations import Duration
from gateway.config.files import read_file
from gateway.config.secrets import FILE_ERROR, Keys
from gateway.config.settings.section import Section
from gateway.errors import SettingsError

EventType = Literal[
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
]

ROOM = 8192
"""Bytes of a client's message beside the data of an event."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]


def _check_master_key(text: str) -> str:
    try:
        if not text or len(b64decode(text, validate=True)) == 32:
            return text
    except ValueError:
        pass
    raise ValueError('must be 32 bytes in base64, such as the output of "openssl rand -base64 32"')


MasterKey = Annotated[str, AfterValidator(_check_master_key)]


class PusherWebhook(Section):
    """Where an app's events are told."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(pattern=r"^https?://\S+$", examples=["https://example.com/pusher/webhooks"])
    """Where they are posted."""
    event_types: tuple[EventType, ...] = Field(default=(), examples=[["channel_occupied", "channel_vacated"]])
    """Which of them; empty is all that the app has."""
    channel_prefix: str = ""
    """Only of channels whose names begin so, as `presence-`."""
    static_headers: Keys = Field(default={}, examples=[{"Authorization": "Bearer …"}])
    """Sent with each request."""


class PusherKey(Section):
    """A key and its secret."""

    model_config = ConfigDict(hide_input_in_errors=True)

    key: Key = Field(examples=["f3c4b2a1d0e9"])
    """Named by clients."""
    secret: str = Field(min_length=1, examples=["7f0e3c9b5d214a68"])
    """Signs; known to the backend alone."""


class PusherApp(Section):
    """An app of the Pusher protocol: who may connect by its key, and what holds for its channels."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: Id = Field(examples=["9001"])
    """Named by backends, in the address of the HTTP API: digits, for some of their libraries take no other."""
    key: Key = Field(examples=["f3c4b2a1d0e9"])
    """Named by clients, in the address of the WebSocket."""
    secret: str = Field(min_length=1, examples=["7f0e3c9b5d214a68"])
    """Signs what the backend allows; known to it alone."""
    encryption_master_key: MasterKey = Field(default="", examples=["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="])
    """Makes the keys of encrypted channels, where the program answers pages itself: 32 bytes in base64."""
    former_keys: tuple[PusherKey, ...] = Field(default=(), examples=[[{"key": "a1b2c3", "secret": "0d1e2f"}]])
    """Other keys that are good still, while they are being replaced."""
    namespace: str | None = None
    """Where its channels stand in the gateway, as `shop` for `shop:private-orders.7`; null is pusher.namespace."""
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
    authorization_timeout: Duration = 0.0
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
    vacated_delay: Duration = 3.0
    """How long a channel or member may be gone before that is told; who returns meanwhile has not been away."""
    timeout: Duration = 5.0
    """For one request."""
    retry_for: Duration = Field(default=280.0, le=290)
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
    """A file with more of them: JSON, YAML or TOML with a list `apps`; read when settings are."""
    app_ttl: Duration = 60.0
    """How long an app is believed that the program has given."""
    activity_timeout: Duration = Field(default=60.0, ge=10, le=3600)
    """After how much silence clients ask whether the connection is alive."""
    cache_ttl: Duration = 1800.0
    """How long cache channels keep their latest event, if not as the namespace's history says; 0 keeps none."""
    subscription_counts: bool = False
    """Count the connections of every channel in the namespaces of apps: for apps that tell them."""
    webhooks: PusherWebhookSettings = PusherWebhookSettings()
    """Telling events."""

    @model_validator(mode="before")
    @classmethod
    def _read_apps(cls, values: Any) -> Any:
        """Those of the file stand among the others, so that all that looks at apps looks at them, too."""
        path = values.get("apps_file") if isinstance(values, Mapping) else None
        given = values.get("apps") or () if path else ()
        if not isinstance(path, str) or not path or not isinstance(given, list | tuple):
            return values
        try:
            return {**values, "apps": [*given, *_apps_of(path)]}
        except SettingsError as error:
            wrong = PydanticCustomError(FILE_ERROR, "{problem}", {"problem": str(error)})
            raise ValidationError.from_exception_data(
                "settings", [InitErrorDetails(type=wrong, loc=("apps_file",), input="")]
            ) from None

    def namespace_of(self, app: PusherApp) -> str:
        """Where the app's channels stand."""
        return self.namespace if app.namespace is None else app.namespace


def _apps_of(path: str) -> list[PusherApp]:
    """The apps of a file. Raises ``SettingsError`` that says where it is wrong, and shows no value."""
    values = read_file(Path(path))
    apps = values.pop("apps", None)
    if values or not isinstance(apps, list):
        raise SettingsError(
            f'file {path} must have a list of apps and nothing else, for example {{"apps": [{{"id": "9001", '
            '"key": "f3c4b2a1d0e9", "secret": "…"}]}'
        )
    found: list[PusherApp] = []
    wrong: list[str] = []
    for index, each in enumerate(apps):
        try:
            found.append(PusherApp.model_validate(each))
        except ValidationError as error:
            wrong.extend(_told(f"apps.{index}", error))
    if wrong:
        raise SettingsError(f"file {path}: {'; '.join(wrong)}")
    return found


def _told(place: str, error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_input=False, include_url=False):
        text = "there is no such setting" if each["type"] == "extra_forbidden" else each["msg"]
        yield f"{'.'.join(map(str, (place, *each['loc'])))}: {text}"
