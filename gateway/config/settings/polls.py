"""Settings of channels whose values a backend is polled for."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.config.durations import Duration, parse_duration
from gateway.config.settings.proxies import DEFAULT
from gateway.config.settings.section import Section


class PollOptions(Section):
    """How the channels of a namespace are polled."""

    mode: Literal["", "versionless", "versioned"] = ""
    """`versioned` goes by the versions that the backend gives; else a value is new if its data differ."""
    proxy_name: str = DEFAULT
    """Who is polled: `default` is `channel.proxy.shared_poll_refresh`, others stand in `proxies`."""
    refresh_interval: Duration = 0.0
    """Time from one poll of a key to the next; 0 is 10 seconds."""
    refresh_batch_size: int = Field(default=0, ge=0)
    """Keys of one request at most; 0 is 1000."""
    max_keys_per_connection: int = Field(default=0, ge=0)
    """Keys of a channel that one connection may track; 0 is 5000."""
    channel_shutdown_delay: Annotated[float, BeforeValidator(parse_duration)] = 0.0
    """Seconds that the values of a channel are remembered after its last key; 0 is 1, negative not at all."""
    track_expired_extra_delay: Duration = 0.0
    """How long a key stays after its signature's end; 0 is 25 seconds."""

    publish_enabled: bool = False
    """Whether `shared_poll_publish` of the server API may tell values before they are polled; needs `versioned`."""
    keep_latest_data: bool = False
    """Keep the values of tracked keys: who tracks one is told at once, and patches need no `prev_data`."""

    @property
    def interval(self) -> float:
        return self.refresh_interval or 10.0

    @property
    def batch(self) -> int:
        return self.refresh_batch_size or 1000

    @property
    def most_keys(self) -> int:
        return self.max_keys_per_connection or 5000

    @property
    def linger(self) -> float:
        return max(self.channel_shutdown_delay, 0.0) if self.channel_shutdown_delay else 1.0

    @property
    def grace(self) -> float:
        return self.track_expired_extra_delay or 25.0


class PollSettings(Section):
    """Channels whose values a backend is polled for, all together."""

    hmac_secret_key: str = ""
    """Secret by which the backend signs the keys that a user may track."""
    hmac_previous_secret_key: str = ""
    """The secret before it, while it is being replaced."""
    hmac_previous_secret_key_valid_until: int = Field(default=0, ge=0)
    """Until when something may have been signed by that (Unix seconds); 0 is without end."""
    concurrency_limit: int = Field(default=0, ge=0)
    """Polls of a node at a time; 0 is 64."""
