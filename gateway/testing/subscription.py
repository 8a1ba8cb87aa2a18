"""One client's subscription: what has come in its channel, in order."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gateway.testing.outcomes import Refused

T = TypeVar("T")

RESUBSCRIBE = 2500
"""From this code of an unsubscribe on, clients subscribe again by themselves."""


@dataclass(frozen=True)
class Publication:
    """Data in a channel. ``offset`` is 0 without history; ``info`` says which client has published it."""

    data: Any
    offset: int = 0
    tags: Mapping[str, str] | None = None
    info: Mapping[str, Any] | None = None
    recovered: bool = False
    """Whether it has come with the answer to subscribe."""


class Owner(Protocol):
    """What a subscription asks of its `Client`."""

    @property
    def name(self) -> str: ...

    async def until(self, look: Callable[[], T | None], what: str, within: float | None = None) -> T: ...

    def refuse_any(self, found: object, where: str) -> None: ...

    async def ask(self, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...

    def may_lack(self, channel: str, offset: int) -> bool:
        """Whether a publication was not for everybody, so that it need not have come."""

    async def round_trip(self) -> None:
        """Return when all that was published before has been received."""


class Subscription:
    """Made by `Client.subscribe`, and by the server (`Client.subscription`)."""

    def __init__(self, client: Owner, channel: str, *, server_side: bool = False) -> None:
        self.client = client
        self.channel = channel
        self.server_side = server_side
        self.active = False
        """Whether the gateway delivers."""
        self.data: Any = None
        """What came with the answer."""
        self.recoverable = False
        self.recovered = False
        """Whether, the last time that the client came back, it has received all that it had missed."""
        self.offset = 0
        self.epoch = ""
        self.request: dict[str, Any] = {}
        """What the client subscribes with, each time."""
        self.refusal: Refused | None = None
        """Why there is no subscription any more."""
        self.resubscriptions: deque[bool] = deque()
        self.publications: deque[Publication] = deque()
        self.joins: deque[Mapping[str, Any]] = deque()
        self.leaves: deque[Mapping[str, Any]] = deque()
        self._positioned = False

    def __repr__(self) -> str:
        return f"<Subscription {self.channel!r} of {self.client.name}>"

    async def next(self, *, within: float | None = None) -> Publication:
        """The next publication. Raises `Late`, `Disconnected`, or `Refused` if the subscription has ended."""
        return await self._first(self.publications, "publication", within)

    async def nothing(self) -> None:
        """No publication has come that was not taken yet, and none is on its way. Raises `Unexpected`.

        Proven by a round trip through the broker, the hub and the connection: what has been published before has
        arrived, and so would have been here.
        """
        await self.client.round_trip()
        self.client.refuse_any(list(self.publications), f"in {self.channel!r}")

    async def refresh(self, token: str) -> None:
        """Give a new token for the subscription."""
        self.request["token"] = token
        await self.client.ask("sub_refresh", {"channel": self.channel, "token": token})

    async def joined(self, *, within: float | None = None) -> Mapping[str, Any]:
        """Who has joined next: ``user``, ``client``, …; for channels that push joins and leaves."""
        return await self._first(self.joins, "join", within)

    async def left(self, *, within: float | None = None) -> Mapping[str, Any]:
        """Who has left next."""
        return await self._first(self.leaves, "leave", within)

    async def resubscribed(self, *, within: float | None = None) -> bool:
        """Wait until the gateway has found that something was missed, and the client has subscribed again.

        Answers whether it has recovered all of it.
        """
        return await self._first(self.resubscriptions, "new subscription", within)

    async def ended(self, *, within: float | None = None) -> Refused:
        """Wait until the server has ended the subscription for good: its code and message."""
        return await self.client.until(lambda: self.refusal, f"end of {self!r}", within)

    async def _first(self, queue: "deque[T]", what: str, within: float | None) -> T:
        def look() -> T | None:
            if queue:
                return queue.popleft()
            if self.refusal is not None:
                raise self.refusal
            return None

        return await self.client.until(look, f"{what} in {self.channel!r}", within)

    # — from the client —

    @property
    def since(self) -> dict[str, Any]:
        """What a returning client says of where it stood."""
        return {"recover": True, "offset": self.offset, "epoch": self.epoch} if self.recoverable else {}

    def begin(self, result: Mapping[str, Any]) -> None:
        """The subscription stands, or stands again."""
        self.active = True
        self.refusal = None
        self.data = result.get("data")
        self._positioned = result.get("positioned", False)
        self.recoverable = result.get("recoverable", False)
        self.recovered = result.get("recovered", False)
        self.offset, self.epoch = result.get("offset", 0), result.get("epoch", "")
        for each in result.get("publications", ()):
            self._advance(each, live=False)
            self._add(each, recovered=True)

    def publish(self, publication: Mapping[str, Any]) -> None:
        """A publication has come live."""
        self._advance(publication, live=True)
        self._add(publication)

    def _add(self, publication: Mapping[str, Any], recovered: bool = False) -> None:
        offset, tags, info = (publication.get(key) for key in ("offset", "tags", "info"))
        self.publications.append(Publication(publication.get("data"), offset or 0, tags, info, recovered))

    def _advance(self, publication: Mapping[str, Any], *, live: bool) -> None:
        """Move on to a publication's offset. Raises ``AssertionError`` if it is out of turn."""
        offset = publication.get("offset", 0)
        if not offset:
            return
        before, self.offset = self.offset, offset
        self.epoch = publication.get("epoch") or self.epoch
        between = range(before + 1, offset) if live and self._positioned else ()
        in_turn = offset > before and all(self.client.may_lack(self.channel, each) for each in between)
        if not in_turn:
            raise AssertionError(f"{self!r}: after offset {before} came {publication!r}")
