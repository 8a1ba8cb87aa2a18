"""One interface for every SDK: calls to await and logs of what happened."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from tests.waiting import until

GetToken = Callable[[], str]
"""Called when the SDK wants a token; may raise ``Unauthorized``, or anything else to fail for now."""
GetState = Callable[[], tuple[int, str]]
"""Loads what the application keeps, and says up to which position of the stream that is."""
PING_DELAY = 3.0
"""Seconds after which an SDK no longer waits for a ping that is due."""


class Unauthorized(Exception):  # noqa: N818  a word of the SDKs
    """The application has no token for this user."""


class CallFailed(Exception):  # noqa: N818
    """A call was answered with an error; code 0 when the SDK itself gave up."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code} {message}")


class Info(Struct):
    """Who a client is."""

    user: str
    client: str
    conn_info: Any = None
    chan_info: Any = None


class Event(Struct):
    """Something that an SDK reported. Which fields are set depends on the name."""

    name: str
    channel: str | None = None
    code: int = 0
    reason: str = ""
    client: str = ""
    transport: str = ""
    data: Any = None
    offset: int | None = None
    epoch: str | None = None
    info: Info | None = None
    tags: dict[str, str] | None = None
    positioned: bool = False
    recoverable: bool = False
    was_recovering: bool = False
    recovered: bool = False
    key: str = ""
    version: int = 0
    removed: bool = False
    entries: list[dict[str, Any]] | None = None


class History(Struct):
    """A page of a channel's history."""

    publications: list[Event]
    offset: int
    epoch: str


class Log(list[Event]):
    """What happened to one client or subscription, in order."""

    def named(self, name: str) -> list[Event]:
        return [event for event in self if event.name == name]

    async def wait(self, name: str, count: int = 1, deadline: float = 10.0) -> Event:
        """The ``count``-th event of that name, as soon as there is one."""
        try:
            found = await until(lambda: self.named(name)[count - 1 : count], deadline, f"{count} x {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; so far: {self[-20:]}") from None
        return found[0]


class Subscription(ABC):
    """A client-side subscription and its log."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.events = Log()

    @property
    def received(self) -> list[Any]:
        """The data of all publications so far."""
        return [event.data for event in self.events.named("publication")]

    async def wait_received(self, expected: list[Any], deadline: float = 10.0) -> None:
        """Wait for as many publications as expected; they must be these, in this order."""
        await until(lambda: len(self.events.named("publication")) >= len(expected), deadline, f"all of {self.channel}")
        assert self.received == expected

    async def wait_last(self, data: Any, deadline: float = 10.0) -> None:
        """Wait for this publication, whatever came before."""
        await until(lambda: self.received[-1:] == [data], deadline, f"{data!r} in {self.channel}")

    async def subscribe(self) -> Event:
        """Subscribe and wait for it."""
        before = len(self.events.named("subscribed"))
        await self.begin()
        return await self.events.wait("subscribed", before + 1)

    @abstractmethod
    async def begin(self) -> None:
        """Ask for the subscription and return at once."""

    @abstractmethod
    async def unsubscribe(self) -> None: ...


class Client(ABC):
    """A client and the log of its own events, those of server-side subscriptions included."""

    def __init__(self) -> None:
        self.events = Log()

    @property
    def id(self) -> str:
        """The id that the server gave at the latest connect."""
        return self.events.named("connected")[-1].client

    async def connect(self) -> Self:
        """Connect and wait for it."""
        before = len(self.events.named("connected"))
        await self.begin()
        await self.events.wait("connected", before + 1)
        return self

    async def subscribe(self, channel: str, **options: Any) -> Subscription:
        """A new subscription, subscribed."""
        subscription = await self.subscription(channel, **options)
        await subscription.subscribe()
        return subscription

    @abstractmethod
    async def begin(self) -> None:
        """Ask for the connection and return at once."""

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def flicker(self) -> None:
        """Connect and disconnect in the same tick."""

    @abstractmethod
    async def state(self) -> str:
        """disconnected, connecting or connected."""

    @abstractmethod
    async def subscription(
        self,
        channel: str,
        *,
        token: str = "",
        get_token: GetToken | None = None,
        recoverable: bool = False,
        positioned: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        tags_filter: dict[str, Any] | None = None,
        get_state: GetState | None = None,
    ) -> Subscription:
        """A new subscription, not yet subscribed."""

    @abstractmethod
    async def remove(self, subscription: Subscription) -> None:
        """Forget an ended subscription, so that there can be a new one of its channel."""

    @abstractmethod
    async def publish(self, channel: str, *items: Any) -> None:
        """Publish in this order without waiting in between; returns when all are answered."""

    @abstractmethod
    async def presence(self, channel: str) -> dict[str, Info]: ...

    @abstractmethod
    async def presence_stats(self, channel: str) -> tuple[int, int]:
        """Number of clients and of users."""

    @abstractmethod
    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History: ...

    @abstractmethod
    async def rpc(self, method: str, data: Any) -> Any: ...


class SDK(ABC):
    """Makes clients. Leaving the ``async with`` block disconnects them all."""

    name: str
    library: str
    """What its clients are of, as documentation calls it."""
    lacks: frozenset[str] = frozenset({"maps", "shared polls"})
    """Features that it does not have."""
    protobuf = False
    transports: tuple[str, ...] = ()
    """Those that a client tries, in order; none: a WebSocket, given by its URL alone."""

    @abstractmethod
    async def client(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        """A new client, not yet connected."""

    async def connected(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        """A new client, connected."""
        return await (await self.client(url, token, get_token)).connect()

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
