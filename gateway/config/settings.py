"""Every setting of the gateway: its name, type, default and meaning, written once.

Names and nesting follow Centrifugo v6 where the option exists there.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.config.durations import Duration
from gateway.config.masking import without_secret


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """A repr ends up in logs and tracebacks, where no secret belongs."""
        for name, value in super().__repr_args__():
            yield name, without_secret(name or "", value)


class ChannelOptions(Section):
    """What holds for the channels of one namespace."""

    presence: bool = False
    """Keep who is subscribed."""
    presence_max_members: int = Field(default=5000, ge=0)
    """With how many members a client may still read presence at once, not only their number; 0 is without limit."""
    join_leave: bool = False
    """Produce join and leave messages."""
    force_push_join_leave: bool = False
    """Deliver them to every subscriber, not only on request."""
    history_size: int = Field(default=0, ge=0)
    """How many publications a channel keeps; needs history_ttl."""
    history_ttl: Duration = 0.0
    """How long it keeps them; needs history_size."""
    history_meta_ttl: Duration = 0.0
    """How long offset and epoch outlive the last use after a publication; 0 takes channel.history_meta_ttl."""
    force_positioning: bool = False
    """Watch every subscriber's position in the stream."""
    allow_positioning: bool = False
    """Watch it when the client asks."""
    force_recovery: bool = False
    """Let every returning subscriber recover what it missed."""
    allow_recovery: bool = False
    """Let it recover when the client asks."""
    force_recovery_mode: Literal["", "stream", "cache"] = ""
    """`stream` gives all missed publications, `cache` the newest alone."""
    replay: bool = False
    """Give a new subscriber what the channel keeps, before what comes."""
    allow_subscribe_for_client: bool = False
    """Every connected user may subscribe."""
    allow_subscribe_for_anonymous: bool = False
    """Users without id may, too."""
    allow_publish_for_client: bool = False
    """Every connected user may publish."""
    allow_publish_for_subscriber: bool = False
    """Those subscribed to the channel may publish."""
    allow_publish_for_anonymous: bool = False
    """Users without id may, too."""
    allow_presence_for_client: bool = False
    """Every connected user may read presence."""
    allow_presence_for_subscriber: bool = False
    """Those subscribed to the channel may read presence."""
    allow_presence_for_anonymous: bool = False
    """Users without id may, too."""
    allow_history_for_client: bool = False
    """Every connected user may read history."""
    allow_history_for_subscriber: bool = False
    """Those subscribed to the channel may read history."""
    allow_history_for_anonymous: bool = False
    """Users without id may, too."""
    batch_delay: Annotated[Duration, Field(le=1)] = 0.0
    """How long publications may wait for others to leave together; without, those of one moment do."""
    allow_user_limited_channels: bool = False
    """Channels such as `dm#7,9` are open to the users named and closed to others; a personal `#7,9` is one user's."""
    channel_regex: str = ""
    """What the part after the namespace must match when a client names it; empty allows any ASCII name."""
    publication_data_format: Literal["", "json", "json_object", "binary"] = ""
    """What data must be: empty any non-empty bytes, `json`, `json_object`, or `binary` (may be empty)."""

    @property
    def keeps_history(self) -> bool:
        return self.history_size > 0 and self.history_ttl > 0


class Namespace(ChannelOptions):
    """Options of the channels whose names begin with `name:`."""

    name: str = Field(pattern=r"^[-a-zA-Z0-9_.]{2,}$")
    """The text before the boundary: letters, digits, `-`, `_`, `.`; at least two."""


class ChannelSettings(Section):
    """Names of channels and what holds for them."""

    max_length: int = Field(default=255, ge=1)
    """Longest name that a client may use, in bytes."""
    namespace_boundary: str = Field(default=":", min_length=1)
    """Ends the namespace in a name."""
    private_prefix: str = Field(default="$", min_length=1)
    """Begins names that need a subscription token."""
    user_boundary: str = Field(default="#", min_length=1)
    """Begins the user list of a user-limited channel."""
    user_separator: str = Field(default=",", min_length=1)
    """Stands between users."""
    history_meta_ttl: Annotated[Duration, Field(gt=0)] = 720 * 3600.0
    """How long offset and epoch of a channel outlive its last use, once something has been published."""
    without_namespace: ChannelOptions = ChannelOptions()
    """Options of the channels without namespace."""
    namespaces: tuple[Namespace, ...] = ()
    """Options by namespace."""


class TokenSettings(Section):
    """How JWTs are verified. An algorithm without a key here is refused."""

    hmac_secret_key: str = ""
    """Secret of HS256, HS384 and HS512."""
    hmac_previous_secret_key: str = ""
    """The secret before, still accepted while keys rotate."""
    hmac_previous_secret_key_valid_until: int = Field(default=0, ge=0)
    """Until when (Unix seconds); 0 is without end."""
    rsa_public_key: str = ""
    """PEM of the key of RS256, RS384 and RS512."""
    ecdsa_public_key: str = ""
    """PEM of the key of ES256, ES384 and ES512."""
    audience: str = ""
    """Required `aud` claim."""
    audience_regex: str = ""
    """Pattern for the `aud` claim."""
    issuer: str = ""
    """Required `iss` claim."""
    issuer_regex: str = ""
    """Pattern for the `iss` claim."""
    user_id_claim: str = ""
    """Claim that holds the user id instead of `sub`."""


class SubscriptionTokenSettings(TokenSettings):
    """Keys of subscription tokens, where they differ from those of connection tokens."""

    enabled: bool = False
    """Use these settings; otherwise those of client.token serve both."""


class PersonalChannelSettings(Section):
    """A server-side subscription for each user, to a channel of its own."""

    enabled: bool = False
    """Subscribe each connection with a user to `#user`."""
    personal_channel_namespace: str = ""
    """Namespace of these channels."""
    single_connection: bool = False
    """Keep only the newest connection of a user; needs presence on the channel."""


class ClientSettings(Section):
    """Connections: who may connect, and their limits."""

    token: TokenSettings = TokenSettings()
    """Connection tokens."""
    subscription_token: SubscriptionTokenSettings = SubscriptionTokenSettings()
    """Subscription tokens."""
    subscribe_to_user_personal_channel: PersonalChannelSettings = PersonalChannelSettings()
    """Personal channels."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect, `*` for all; patterns such as `https://*.example.com`."""
    allow_anonymous_connect_without_token: bool = False
    """Let clients without token connect as the anonymous user."""
    disallow_anonymous_connection_tokens: bool = False
    """Refuse tokens without user."""
    insecure: bool = False
    """Allow everything to everybody. For trying out only."""
    insecure_skip_token_signature_verify: bool = False
    """Believe tokens unseen. For trying out only."""
    user_id_http_header: str = ""
    """Trusted header that names the user; the proxy in front must remove it from what clients send."""
    connect_include_server_time: bool = False
    """Tell the server's time in the connect reply."""
    ping_interval: Duration = 25.0
    """Time between pings; 0 sends none."""
    pong_timeout: Duration = 8.0
    """How long a client may take to answer one; 0 asks for no answer."""
    stale_close_delay: Annotated[Duration, Field(gt=0)] = 10.0
    """How long a connection may stay without a connect command."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 20.0
    """How long the gateway may take to decide a connect command; then its client is asked to try again."""
    connecting_limit: int = Field(default=256, ge=1)
    """Connect commands per node that the program decides at a time; the others wait their turn."""
    message_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """How long a client may take to finish a message it has begun, or the handshake."""
    expired_close_delay: Duration = 25.0
    """Grace after a connection's expiry, for its refresh."""
    expired_sub_close_delay: Duration = 25.0
    """Grace after a subscription's expiry, for its refresh."""
    channel_position_check_delay: Annotated[Duration, Field(gt=0)] = 40.0
    """How long a channel is quiet before its position is compared with the broker's; then ever more seldom."""
    channel_position_max_time_lag: Duration = 0.0
    """How late a publication may arrive before positions are held to be lost; 0 does not look."""
    message_size_limit: int = Field(default=65536, ge=256)
    """Largest message of a client, in bytes; before it is let in 65536 at most."""
    channel_limit: int = Field(default=128, ge=1)
    """Most subscriptions of a connection."""
    queue_max_size: int = Field(default=1048576, ge=1024)
    """Most bytes waiting for a client that reads slowly, beyond what made it slow."""
    connection_limit: int = Field(default=0, ge=0)
    """Most connections of a node; 0 is without limit."""
    connection_rate_limit: int = Field(default=0, ge=0)
    """Most new connections of a node in a second, the others get HTTP 503 and Retry-After; 0 is without limit."""
    user_connection_limit: int = Field(default=0, ge=0)
    """Most connections of a user on a node; 0 is without limit."""
    history_max_publication_limit: int = Field(default=300, ge=1)
    """Most publications that a history command returns."""
    recovery_max_publication_limit: int = Field(default=300, ge=1)
    """Most publications that a recovery returns."""
    recovery_max_size: int = Field(default=16777216, ge=1)
    """Most bytes of data that a recovery returns: who has missed more is told that it cannot be recovered."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ping_interval and self.pong_timeout >= self.ping_interval:
            raise ValueError(
                f"client.pong_timeout ({self.pong_timeout:g}s) must be less than client.ping_interval "
                f'({self.ping_interval:g}s), for example ping_interval = "25s", pong_timeout = "8s"'
            )
        return self


class WebSocketSettings(Section):
    """The WebSocket transport."""

    compression: bool = False
    """Offer permessage-deflate. Saves traffic, and costs processor time for every message."""
    compression_min_size: int = Field(default=128, ge=0)
    """Smaller frames are sent as they are, in bytes."""
    compression_level: int = Field(default=1, ge=1, le=9)
    """From 1, fast, to 9, small."""
    write_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """How long a client may take nothing of what waits for it, before it is cut off."""


class UniSSESettings(Section):
    """Server-sent events at /connection/uni_sse, for pages that only listen and where WebSockets are blocked."""

    enabled: bool = False
    """Serve them."""


class ShutdownSettings(Section):
    """How clients are sent away when a node stops."""

    drain_rate: int = Field(default=100, ge=1)
    """Connections asked to leave each second."""
    drain_time: Duration = 120.0
    """Longest time for all of them; the rate is higher where that is needed."""


class HTTPAPISettings(Section):
    """The server API at /api."""

    key: str = ""
    """Key that callers send in X-API-Key; without one every call is refused."""
    insecure: bool = False
    """Let everybody call. For trying out only."""
    error_mode: Literal["", "transport"] = ""
    """`transport` tells errors by HTTP status."""


class TLSSettings(Section):
    """TLS to a server. Keys and certificates are PEM: the text itself, or the path of a file."""

    enabled: bool = False
    """Use it, with any form of address; `rediss://` does, too."""
    server_ca_pem: str = ""
    """Certificates of the authorities that may vouch for the server; empty takes those of the system."""
    cert_pem: str = ""
    """Certificate to show to the server."""
    key_pem: str = ""
    """Its key."""
    server_name: str = ""
    """Name that the server's certificate must have; by default the host of its address."""
    insecure_skip_verify: bool = False
    """Believe any certificate. For trying out only."""


class RedisSettings(Section):
    """The Redis that joins the nodes: one server, a group behind Sentinel, a Cluster, or several of them as shards."""

    address: str | tuple[str, ...] = "redis://127.0.0.1:6379"
    """URL or host:port, in every form below; of several, by commas or as a list, each keeps its share of channels."""
    user: str = ""
    """User to log in as, unless the address says."""
    password: str = ""
    """Password, unless the address says."""
    password_file: str = ""
    """File that holds the password, read at each attempt to connect."""
    tls: TLSSettings = TLSSettings()
    """TLS to the servers."""
    sentinel_master_name: str = ""
    """Name of the group behind Sentinel, unless the address says; the address is then that of a sentinel."""
    sentinel_user: str = ""
    """User to log in to sentinels as."""
    sentinel_password: str = ""
    """Password for sentinels."""
    sentinel_tls: TLSSettings = TLSSettings()
    """TLS to the sentinels."""
    prefix: str = Field(default="gateway", pattern=r"^[^{}\s]+$")
    """Begins every key and pub/sub channel."""
    connect_timeout: Annotated[Duration, Field(gt=0, le=4)] = 1.0
    """How long connecting may take."""
    io_timeout: Annotated[Duration, Field(gt=0, le=4)] = 4.0
    """How long nothing may arrive, while answers are due, before the connection is given up."""
    probe_interval: Annotated[Duration, Field(gt=0)] = 5.0
    """Time between the messages by which a node proves that it still hears."""

    @field_validator("address", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Several in one text, as environment variables and flags have them."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            with suppress(ValueError):
                return json.loads(value)
        several = tuple(part.strip() for part in value.split(","))
        return several if len(several) > 1 else value.strip()

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,) if isinstance(self.address, str) else self.address


class PostgresSettings(Section):
    """The PostgreSQL database that joins the nodes."""

    dsn: str = ""
    """URL, such as `postgres://user:password@127.0.0.1:5432/app`; several hosts may stand in it."""
    table_prefix: str = Field(default="gateway", pattern=r"^[a-z_][a-z0-9_]{0,30}$")
    """Begins the names of tables and functions, and of the notifications."""
    skip_schema_init: bool = False
    """Do not make tables and functions at the start: somebody else has, with the SQL of `gateway config sql`."""
    pool_size: int = Field(default=4, ge=2)
    """Connections of a node for statements, beside the one that listens; half of them may wait for held channels."""
    connect_timeout: Annotated[Duration, Field(gt=0, le=4)] = 1.0
    """How long connecting may take."""
    io_timeout: Annotated[Duration, Field(gt=0, le=4)] = 4.0
    """How long a statement may take before its connection is given up."""
    probe_interval: Annotated[Duration, Field(gt=0)] = 5.0
    """Time between the messages by which a node proves that it still hears."""
    cleanup_interval: Annotated[Duration, Field(gt=0)] = 60.0
    """Time between two looks for what has expired."""


class BroadcasterSettings(Section):
    """A backend of the library `broadcaster` that joins the nodes: publications and presence, nothing is kept."""

    url: str = ""
    """`postgres://`, `kafka://`, `redis://`, or `memory://` for one process, as for `broadcaster` itself."""
    name: str = Field(default="gateway", pattern=r"^[a-z_][a-z0-9_]{0,49}$")
    """The backend's channel or topic that all nodes share, and the beginning of its table's name in PostgreSQL."""
    connect_timeout: Annotated[Duration, Field(gt=0, le=30)] = 5.0
    """How long connecting may take, until the node hears itself."""
    io_timeout: Annotated[Duration, Field(gt=0, le=4)] = 4.0
    """How long an answer may take, before the connection is given up."""
    probe_interval: Annotated[Duration, Field(gt=0, le=10)] = 2.5
    """Time between the messages by which a node proves that it still hears, and shows the others that it lives."""


class EngineSettings(Section):
    """What joins the nodes: broker and presence store."""

    type: Literal["memory", "redis", "postgres", "broadcaster"] = "memory"
    """`memory` serves one node alone, the others any number; `broadcaster` keeps nothing."""
    redis: RedisSettings = RedisSettings()
    """Redis."""
    postgres: PostgresSettings = PostgresSettings()
    """PostgreSQL."""
    broadcaster: BroadcasterSettings = BroadcasterSettings()
    """A backend of `broadcaster`."""
    publish_wait: Annotated[Duration, Field(le=30)] = 1.0
    """How long a publication that cannot be sent waits for the broker to come back; 0 fails at once."""

    @property
    def is_local(self) -> bool:
        """Whether it serves one process alone."""
        return self.type == "memory" or (self.type == "broadcaster" and self.broadcaster.url.startswith("memory:"))


class PresenceSettings(Section):
    """A Redis of its own for presence, beside that of the engine."""

    enabled: bool = False
    """Keep presence there; needs `engine.type = "redis"`."""
    redis: RedisSettings = RedisSettings()
    """The Redis."""


class HTTPServerSettings(Section):
    """Where the gateway listens."""

    address: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to bind; 0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes, each with a listening socket of its own on the same port."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose X-Forwarded-For is believed, separated by commas."""
    root_path: str = ""
    """Prefix under which a proxy publishes the gateway."""


class HealthSettings(Section):
    """Health checks at /health."""

    enabled: bool = True
    """Serve them."""
    ready_without_broker: bool = True
    """Stay in the balancer when the broker is away: connections live on, and only what needs it fails."""


class PrometheusSettings(Section):
    """Metrics at /metrics."""

    enabled: bool = True
    """Serve them."""


class DemoSettings(Section):
    """The page at / for trying out."""

    enabled: bool = False
    """Serve the page, and a connection token to anybody who asks."""


class AsyncAPISettings(Section):
    """What clients may send and what they get: a document at /asyncapi.json, a page at /asyncapi."""

    enabled: bool = True
    """Serve them, where there are routes: in an application."""
    title: str = ""
    """Title of the document; by default the application's."""
    version: str = ""
    """Version of the program that it tells of; by default the application's."""


class NodeSettings(Section):
    """This node."""

    name: str = ""
    """Name in the registry; by default the first letters of its id."""


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
        url = os.environ.get("GATEWAY_REDIS_URL")
        engine = {"engine": {"type": "redis", "redis": {"address": url}}} if url else {}
        return init_settings, env_settings, InitSettingsSource(settings_cls, engine), *others

    node: NodeSettings = NodeSettings()
    """This node."""
    http_server: HTTPServerSettings = HTTPServerSettings()
    """Where the gateway listens."""
    client: ClientSettings = ClientSettings()
    """Connections."""
    websocket: WebSocketSettings = WebSocketSettings()
    """WebSockets."""
    uni_sse: UniSSESettings = UniSSESettings()
    """Server-sent events."""
    shutdown: ShutdownSettings = ShutdownSettings()
    """Stopping."""
    channel: ChannelSettings = ChannelSettings()
    """Channels."""
    engine: EngineSettings = EngineSettings()
    """Broker and presence."""
    presence: PresenceSettings = PresenceSettings()
    """Where presence is kept."""
    http_api: HTTPAPISettings = HTTPAPISettings()
    """Server API."""
    health: HealthSettings = HealthSettings()
    """Health checks."""
    prometheus: PrometheusSettings = PrometheusSettings()
    """Metrics."""
    asyncapi: AsyncAPISettings = AsyncAPISettings()
    """Document of channels and procedures."""
    demo: DemoSettings = DemoSettings()
    """The page for trying out."""
