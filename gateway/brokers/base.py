"""The broker: carries publications between nodes and keeps the history of channels."""

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.settings.channels import META_TTL
from gateway.errors import Error, ErrorCode
from gateway.health import ServerHealth
from gateway.messages import ClientInfo, Position, Publication, Receipt
from gateway.metrics import Reads

Posted = asyncio.Future[Any] | bool
"""What becomes of something that is published: the backend's answer to come, which fails as ``publish`` would; True if
it is accepted already; False if it has to be waited for, and nothing has been done."""

IDEMPOTENCY_TTL = 300.0
"""Seconds for which the result of a publish with an idempotency key is remembered."""


def new_epoch() -> str:
    """Name a new stream, at random: two streams of a channel must not have one name."""
    return f"{random.getrandbits(32):08x}"


class StreamOptions(Struct, frozen=True, cache_hash=True):
    """How a channel keeps its stream. History is on when both size and ttl (seconds) are positive.

    Offset and epoch outlive the last use by ``history_meta_ttl``, or a little less, once something has been published.
    The epoch of a stream that has only been read lasts ``unpublished_ttl`` at least, and longer while it is verified.
    With ``delta_publish`` all that is published into it is patchable.
    """

    history_size: int = 0
    history_ttl: float = 0.0
    history_meta_ttl: float = META_TTL
    unpublished_ttl: float = 60.0
    delta_publish: bool = False

    @property
    def keeps_history(self) -> bool:
        return self.history_size > 0 and self.history_ttl > 0


class PublishOptions(Struct, frozen=True):
    """Extras of one publish.

    ``version`` > 0 drops the publication when the stream already holds that version or a later one of the
    same ``version_epoch``. A repeat with the same ``idempotency_key`` publishes nothing and answers as the
    first did, for ``idempotency_ttl`` seconds. ``skip_history`` delivers without offset. With a ``fence`` (that of a
    lease named like the channel) the broker accepts the publication only while that lease is held, else it is
    ``Fenced``. ``delta`` says whether it is patchable; None leaves that to the stream.
    """

    skip_history: bool = False
    idempotency_key: str = ""
    version: int = 0
    version_epoch: str = ""
    fence: str = ""
    idempotency_ttl: float = IDEMPOTENCY_TTL
    delta: bool | None = None


def outgoing(
    publication: Publication,
    stream: StreamOptions,
    options: PublishOptions,
    now: float,
    offset: int = 0,
    epoch: str = "",
) -> Publication:
    """What leaves for the nodes. ``now`` (Unix seconds) is when it was published, unless it says so itself."""
    return replace(
        publication,
        offset=offset,
        epoch=epoch or publication.epoch,
        time=publication.time or int(now * 1000),
        version=options.version,
        patchable=stream.delta_publish if options.delta is None else options.delta,
    )


NO_EXTRAS = PublishOptions()


class Fenced(Error):  # noqa: N818  a state, like BrokerUnavailable
    """The publisher's lease of the channel has ended; somebody else may hold it by now."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.NOT_AVAILABLE)


class HistoryFilter(Struct, frozen=True, cache_hash=True):
    """Which part of a stream: at most ``limit`` publications (-1: all, 0: none, only the position).

    ``since`` means strictly after its offset, or, in ``reverse`` (newest first), strictly before it; beyond the
    top, there is nothing before it either. Its epoch is not looked at.
    """

    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class Continued(Position, frozen=True):
    """The top of a stream that has had other epochs: ``former`` is where they ended, the oldest first.

    Up to there, what was published under them is part of the stream. Equal to no plain position: see
    `gateway.core.recovery.resume`.
    """

    former: tuple[Position, ...] = ()


class Claim(NamedTuple):
    """Where somebody stands. The stream's epoch is to last for another ``hold`` seconds at least."""

    channel: str
    position: Position
    stream: StreamOptions
    hold: float = 0.0


class BrokerEvents(Protocol):
    """What a broker tells the node. All are plain calls that return at once and raise nothing."""

    def on_publication(self, channel: str, publication: Publication) -> None: ...

    def on_join(self, channel: str, info: ClientInfo) -> None: ...

    def on_leave(self, channel: str, info: ClientInfo) -> None: ...

    def on_control(self, data: bytes) -> None: ...

    def on_gap(self) -> None:
        """Publications may have been missed: the broker connection was away and has come back."""


class BrokerHealth(Struct, frozen=True):
    """``connected``: commands are answered. ``deaf``: nothing arrives though it should.

    ``lag`` is the last measured time from publish to arrival, in seconds; ``reconnects`` counts. ``refusal`` is what
    the backend refuses and will until an operator has seen to it: one word. ``servers`` have the rest, if there are
    any; ``refused`` is how often something was refused, by kind. ``reads`` are those of history.
    """

    connected: bool = True
    deaf: bool = False
    lag: float = 0.0
    reconnects: int = 0
    refusal: str = ""
    servers: tuple[ServerHealth, ...] = ()
    refused: Mapping[str, int] = {}
    reads: Reads = Reads()

    @property
    def ok(self) -> bool:
        return self.connected and not self.deaf and not self.refusal


class Broker(Protocol):
    """One implementation per backend.

    Every method may raise ``BrokerUnavailable``: within five seconds where the backend has fallen silent.
    """

    async def start(self, node: str, events: BrokerEvents) -> None:
        """Begin to deliver to ``events``; also listens for control messages to all nodes and to ``node``.

        Returns even when the backend cannot be reached yet: the connection is supervised from then on.
        """

    async def close(self) -> None: ...

    def subscribe(self, channel: str) -> Awaitable[None]:
        """Ask for the channel's messages. Returns when the backend has confirmed; kept across reconnects."""

    def unsubscribe(self, channel: str) -> Awaitable[None]: ...

    async def hearers(self, channels: Sequence[str]) -> list[int]:
        """How many nodes are subscribed to each, as far as the backend knows."""

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        """Store and publish as one atomic act. Answers where the publication stands, and how many nodes hear it.

        Raises ``Fenced`` if ``options.fence`` is not that of the channel's lease. Its ``BrokerUnavailable`` says as
        ``stored`` whether it was sent: what was not, a `PublishQueue` sends when the backend is back.
        """

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        """As ``publish``, without extras, for who does not wait."""

    async def echo(self) -> None:
        """Return when what this node has published before has been delivered to it.

        That is, where it is subscribed. While the node is deaf nobody waits for long.
        """

    async def publish_join(self, channel: str, info: ClientInfo) -> None: ...

    async def publish_leave(self, channel: str, info: ClientInfo) -> None: ...

    def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> Awaitable[tuple[list[Publication], Position]]:
        """Part of the stream, as of now or later, and its top position. Makes an epoch if there is none.

        That keeps nothing for long: see `StreamOptions`. Equal reads may share an answer. The top is `Continued` where
        the stream has had other epochs.
        """

    async def verify(self, claims: Sequence[Claim]) -> list[bool]:
        """Whether each position is the top of its stream, or nobody can tell just now.

        A stream of the same epoch that ends *before* the position has lost publications (a restored or
        failed-over server): it gets a new epoch, so that nobody takes what follows for a continuation.
        """

    async def remove_history(self, channel: str) -> None:
        """Drop the publications; offset and epoch stay."""

    async def publish_control(self, data: bytes, node: str = "") -> None:
        """Send to every node (this one too), or to ``node`` alone."""

    def health(self) -> BrokerHealth: ...
