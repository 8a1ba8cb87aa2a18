"""One channel in the hands of the program, with the types of its route."""

from collections.abc import AsyncIterable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, Unpack, overload

from gateway.messages import Payload, Position, Receipt
from gateway.program import commits
from gateway.program.routes.listening import Listener
from gateway.program.routes.named_events import ChannelEvent, Named
from gateway.program.routes.streams import Stream
from gateway.program.typed import ClientInfo, Publication, T


class Connected(Protocol):
    """The `Client` of a handler, or what `Gateway.attach` gives."""

    @property
    def id(self) -> str: ...

    @property
    def user(self) -> str: ...


AnyClient = Connected | str
"""A connection, or the id of one."""


class Options(commits.Options, total=False):
    """What may be said of a publication that leaves at once: also which clients are to do without it."""

    exclude: AnyClient | Collection[AnyClient] | None


class Operating(Protocol):
    """What a handle asks of the gateway that has the channel."""

    async def publish(self, channel: str, data: Any, **options: Unpack[Options]) -> Receipt: ...

    async def publish_event(
        self, channel: str, event: ChannelEvent[Any] | str, data: Any, **options: Unpack[Options]
    ) -> Receipt: ...

    async def history(
        self, channel: str, *, limit: int, since: Position | None, reverse: bool
    ) -> tuple[list[Publication[Any]], Position]: ...

    async def presence(self, channel: str) -> dict[str, ClientInfo]: ...

    def listen(self, channel: str, *, limit: int) -> AbstractAsyncContextManager[Listener[Any]]: ...

    async def stream(
        self, channel: str, source: AsyncIterable[Any], *, stop_when_unread: float | None
    ) -> Stream[Any]: ...


class ChannelHandle(Generic[T]):
    """One channel, to publish to and to read ::

        lobby = chat.at(room="lobby")
        await lobby.publish(ChatMessage(author="server", text="hello"))

    Made by `ChannelRoute.at`. All of it is as the method of `Gateway` that has its name says, with the types that the
    channel declares.
    """

    def __init__(self, gateway: Operating, name: str, encode: Callable[[Any], Payload | bytes]) -> None:
        self.name = name
        """The channel's name, for whatever takes one."""
        self._gateway = gateway
        self._encode = encode

    async def publish(self, data: T, **options: Unpack[Options]) -> Receipt:
        """Publish, cut to the type of the channel's ``message``. Raises ``pydantic.ValidationError`` for another."""
        return await self._gateway.publish(self.name, self._encode(data), **options)

    @overload
    async def publish_event(self, event: ChannelEvent[Named], data: Named, **options: Unpack[Options]) -> Receipt: ...
    @overload
    async def publish_event(self, event: str, data: Any, **options: Unpack[Options]) -> Receipt: ...
    async def publish_event(self, event: ChannelEvent[Any] | str, data: Any, **options: Unpack[Options]) -> Receipt:
        """Publish an event of the channel's by its name."""
        return await self._gateway.publish_event(self.name, event, data, **options)

    async def history(
        self, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> tuple[list[Publication[T]], Position]:
        """What the channel keeps, and its top position."""
        return await self._gateway.history(self.name, limit=limit, since=since, reverse=reverse)

    async def presence(self) -> dict[str, ClientInfo]:
        """Who is subscribed, by client id."""
        return await self._gateway.presence(self.name)

    def listen(self, *, limit: int = 1000) -> AbstractAsyncContextManager[Listener[T]]:
        """Hear what is published, on all nodes."""
        return self._gateway.listen(self.name, limit=limit)

    async def stream(self, source: AsyncIterable[T], *, stop_when_unread: float | None = None) -> Stream[T]:
        """Publish what an asynchronous iterator yields."""
        return await self._gateway.stream(self.name, source, stop_when_unread=stop_when_unread)

    def __repr__(self) -> str:
        return f"<ChannelHandle {self.name!r}>"
