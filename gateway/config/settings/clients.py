"""Settings of connections: who may connect, and how they are kept."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.config.durations import Duration
from gateway.config.secrets import FROM_FILE, Keys
from gateway.config.settings.channels import PersonalChannelSettings
from gateway.config.settings.limits import RateLimitSettings
from gateway.config.settings.proxies import ClientProxySettings
from gateway.config.settings.section import Section


class TokenSettings(Section):
    """How JWTs are verified. An algorithm without a key here is refused."""

    hmac_secret_key: str = ""
    """Secret of HS256, HS384 and HS512."""
    hmac_previous_secret_key: str = ""
    """The secret before, still accepted while keys rotate."""
    hmac_previous_secret_key_valid_until: int = Field(default=0, ge=0)
    """Until when (Unix seconds); 0 is without end."""
    hmac_secret_keys: Keys = Field(default={})
    """More such secrets by name, each as good: `{2026 = "…", 2027 = "…"}`; a token's `kid` may name one."""
    rsa_public_key: Annotated[str, FROM_FILE] = ""
    """PEM of the key of RS256, RS384 and RS512."""
    rsa_public_keys: Keys = Field(default={})
    """More such keys by name."""
    ecdsa_public_key: Annotated[str, FROM_FILE] = ""
    """PEM of the key of ES256, ES384 and ES512."""
    ecdsa_public_keys: Keys = Field(default={})
    """More such keys by name."""
    jwks_public_endpoint: str = ""
    """URL of the issuer's keys (JWKS): RSA, EC, Ed25519. With it the keys above are not used."""
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

    @property
    def signing_secret(self) -> str:
        """What the command line and the page sign with: of several secrets the first; empty if there is none."""
        return self.hmac_secret_key or next(iter(self.hmac_secret_keys.values()), "")


class SubscriptionTokenSettings(TokenSettings):
    """Keys of subscription tokens, where they differ from those of connection tokens."""

    enabled: bool = False
    """Use these settings; otherwise those of client.token serve both."""


class ClientSettings(Section):
    """Connections: who may connect, and their limits."""

    token: TokenSettings = TokenSettings()
    """Connection tokens."""
    subscription_token: SubscriptionTokenSettings = SubscriptionTokenSettings()
    """Subscription tokens."""
    subscribe_to_user_personal_channel: PersonalChannelSettings = PersonalChannelSettings()
    """Personal channels."""
    proxy: ClientProxySettings = ClientProxySettings()
    """Backends that decide about connections."""
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
    """Connect commands per node that a program or a backend decides at a time; the others wait their turn."""
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
    address_connection_limit: int | None = Field(default=None, ge=0)
    """Most connections of an address on a node, 0 is without limit; by default 5,000 of one of the public Internet."""
    rate_limit: RateLimitSettings = RateLimitSettings()
    """Rates of commands, bytes, errors and new connections."""
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
