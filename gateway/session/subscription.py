"""One subscription of a session."""

from typing import TYPE_CHECKING

from gateway.auth.permissions import Features
from gateway.channels import Channel
from gateway.core.wheel import Timer
from gateway.messages import ClientInfo, Position, Publication
from gateway.session.application import Admitted

if TYPE_CHECKING:
    from gateway.session.session import Session


class Subscription:
    """What the session knows of one channel; to the hub, a subscriber."""

    __slots__ = (
        "channel",
        "connection",
        "data",
        "expire_at",
        "expiry",
        "held",
        "info",
        "joins",
        "live",
        "options",
        "positioned",
        "prepared",
        "recoverable",
        "refreshable",
        "resolved",
        "revoked",
        "server_side",
        "since",
    )

    def __init__(
        self,
        session: "Session",
        channel: Channel,
        admitted: Admitted,
        features: Features,
        since: Position | None,
        *,
        server_side: bool = False,
    ) -> None:
        grant = admitted.grant
        self.connection = session
        self.channel = channel.name
        self.resolved = channel
        self.options = grant.override.apply(channel.options)
        """The namespace's options, with what the token changes in them."""
        self.joins = features.join_leave
        self.positioned = features.positioned
        self.recoverable = features.recoverable
        self.info = ClientInfo(session.user, session.client, session.info, grant.info)
        self.data = grant.data
        self.expire_at = admitted.expire_at
        """Unix seconds; 0 is never."""
        self.refreshable = admitted.refreshable
        """Whether a new token of the client can move the expiry."""
        self.expiry: Timer | None = None
        self.since = since if features.positioned else None
        """Where a returning client says that it stood."""
        self.server_side = server_side
        self.prepared = False
        """Whether it may be dropped by others than those who are making it."""
        self.revoked = False
        """Taken away while it was being made."""
        self.live = False
        """Whether the client has been told, and delivery has begun."""
        self.held: list[Publication] | None = [] if features.positioned else None

    @property
    def batch_delay(self) -> float:
        return self.options.batch_delay

    @property
    def presence_info(self) -> ClientInfo | None:
        """What is shown in presence, if the channel keeps it."""
        return self.info if self.options.presence else None

    def lose_position(self) -> None:
        self.connection.lose_position(self)
