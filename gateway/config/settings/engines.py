"""Settings of what joins the nodes."""

import json
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from gateway.config.durations import Duration
from gateway.config.secrets import FROM_FILE
from gateway.config.settings.section import Section


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

    address: Annotated[str | tuple[str, ...], FROM_FILE] = "redis://127.0.0.1:6379"
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

    dsn: Annotated[str, FROM_FILE] = ""
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

    url: Annotated[str, FROM_FILE] = ""
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
