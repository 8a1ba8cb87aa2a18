"""Every setting of the gateway: its name, type, default and meaning, written once.

Names and nesting follow Centrifugo v6 where the option exists there.
"""

import os

from pydantic import Field, PrivateAttr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.config.settings.admin import AdminSettings
from gateway.config.settings.channels import ChannelOptions, ChannelSettings, Namespace, PersonalChannelSettings
from gateway.config.settings.clients import (
    ClientSettings,
    SubscriptionTokenSettings,
    TokenSettings,
    WebSocketSettings,
)
from gateway.config.settings.engines import (
    BroadcasterSettings,
    EngineSettings,
    PostgresSettings,
    PresenceSettings,
    RedisSettings,
    TLSSettings,
)
from gateway.config.settings.limits import (
    AddressCommandLimits,
    ClientCommandLimits,
    ClientErrorLimits,
    RateLimitSettings,
    SharedCommandLimits,
    UserCommandLimits,
)
from gateway.config.settings.logs import LogSettings
from gateway.config.settings.polls import PollOptions, PollSettings
from gateway.config.settings.proxies import (
    EventProxySettings,
    NamedProxySettings,
    ProxySettings,
    RPCNamespace,
    RPCOptions,
    RPCSettings,
)
from gateway.config.settings.pusher import PusherApp, PusherKey, PusherSettings, PusherWebhook, PusherWebhookSettings
from gateway.config.settings.section import Section
from gateway.config.settings.serving import (
    AsyncAPISettings,
    DemoSettings,
    HealthSettings,
    HTTPAPISettings,
    HTTPServerSettings,
    NodeSettings,
    PrometheusSettings,
    ServerTLSSettings,
    ShutdownSettings,
)
from gateway.config.settings.telemetry import OpenTelemetrySettings
from gateway.config.settings.transports import (
    EmulationSettings,
    HTTPStreamSettings,
    SSESettings,
    StreamSettings,
    UniHTTPStreamSettings,
    UniSSESettings,
    UniWebSocketSettings,
)

__all__ = [
    "AddressCommandLimits",
    "AdminSettings",
    "AsyncAPISettings",
    "BroadcasterSettings",
    "ChannelOptions",
    "ChannelSettings",
    "ClientCommandLimits",
    "ClientErrorLimits",
    "ClientSettings",
    "DemoSettings",
    "EmulationSettings",
    "EngineSettings",
    "EventProxySettings",
    "HTTPAPISettings",
    "HTTPServerSettings",
    "HTTPStreamSettings",
    "HealthSettings",
    "LogSettings",
    "NamedProxySettings",
    "Namespace",
    "NodeSettings",
    "OpenTelemetrySettings",
    "Origins",
    "PersonalChannelSettings",
    "PollOptions",
    "PollSettings",
    "PostgresSettings",
    "PresenceSettings",
    "PrometheusSettings",
    "ProxySettings",
    "PusherApp",
    "PusherKey",
    "PusherSettings",
    "PusherWebhook",
    "PusherWebhookSettings",
    "RPCNamespace",
    "RPCOptions",
    "RPCSettings",
    "RateLimitSettings",
    "RedisSettings",
    "SSESettings",
    "Section",
    "ServerTLSSettings",
    "Settings",
    "SharedCommandLimits",
    "ShutdownSettings",
    "StreamSettings",
    "SubscriptionTokenSettings",
    "TLSSettings",
    "TokenSettings",
    "UniHTTPStreamSettings",
    "UniSSESettings",
    "UniWebSocketSettings",
    "UserCommandLimits",
    "WebSocketSettings",
]


class Origins(dict[str, str]):
    """Where settings come from, by dotted key. All are equal, for settings are the same wherever they come from."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origins)


class Settings(BaseSettings):
    """All settings: defaults, then file, then environment (GATEWAY_...), then flags."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """As ever, and GATEWAY_REDIS_URL as the short form of what joins the nodes."""
        given = {"address": "GATEWAY_REDIS_URL", "address_file": "GATEWAY_REDIS_URL_FILE"}
        redis = {name: os.environ[variable] for name, variable in given.items() if os.environ.get(variable)}
        engine = {"engine": {"type": "redis", "redis": redis}} if redis else {}
        return init_settings, env_settings, InitSettingsSource(settings_cls, engine), *others

    node: NodeSettings = NodeSettings()
    """This node."""
    http_server: HTTPServerSettings = HTTPServerSettings()
    """Where the gateway listens."""
    client: ClientSettings = ClientSettings()
    """Connections."""
    websocket: WebSocketSettings = WebSocketSettings()
    """WebSockets."""
    http_stream: HTTPStreamSettings = HTTPStreamSettings()
    """HTTP streams."""
    sse: SSESettings = SSESettings()
    """Server-sent events."""
    emulation: EmulationSettings = EmulationSettings()
    """Commands to both."""
    uni_websocket: UniWebSocketSettings = UniWebSocketSettings()
    """WebSockets, one way."""
    uni_http_stream: UniHTTPStreamSettings = UniHTTPStreamSettings()
    """HTTP streams, one way."""
    uni_sse: UniSSESettings = UniSSESettings()
    """Server-sent events, one way."""
    shutdown: ShutdownSettings = ShutdownSettings()
    """Stopping."""
    channel: ChannelSettings = ChannelSettings()
    """Channels."""
    shared_poll: PollSettings = PollSettings()
    """Channels that are polled."""
    rpc: RPCSettings = RPCSettings()
    """Calls of clients."""
    proxies: tuple[NamedProxySettings, ...] = Field(
        default=(), examples=[[{"name": "orders", "endpoint": "http://127.0.0.1:3000/orders"}]]
    )
    """Backends by name."""
    engine: EngineSettings = EngineSettings()
    """Broker and presence."""
    presence: PresenceSettings = PresenceSettings()
    """Where presence is kept."""
    pusher: PusherSettings = PusherSettings()
    """The Pusher protocol."""
    http_api: HTTPAPISettings = HTTPAPISettings()
    """Server API."""
    health: HealthSettings = HealthSettings()
    """Health checks."""
    prometheus: PrometheusSettings = PrometheusSettings()
    """Metrics."""
    opentelemetry: OpenTelemetrySettings = OpenTelemetrySettings()
    """Traces."""
    asyncapi: AsyncAPISettings = AsyncAPISettings()
    """Document of channels and procedures."""
    log: LogSettings = LogSettings()
    """What is logged, and how."""
    demo: DemoSettings = DemoSettings()
    """The page for trying out."""
    admin: AdminSettings = AdminSettings()
    """The page for operators."""
    _origins: Origins = PrivateAttr(default_factory=Origins)
    """Of those settings that have been given, as `config.sources.load` knows it."""
    _needless: int = PrivateAttr(default=0)
    """How many of a file are Centrifugo's alone, and make no difference here."""
