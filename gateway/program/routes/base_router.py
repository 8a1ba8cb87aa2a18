"""What gateways and routers take alike: channels and procedures."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.declaration import Declaration
from gateway.program.routes.options import SUBSCRIBERS, Options, Who
from gateway.program.routes.signatures import SignatureError, name_of
from gateway.program.routes.streams import Stream
from gateway.program.typed import T

F = TypeVar("F", bound=Callable[..., Any])


class BaseRouter(ABC):
    """What `Gateway` and `ChannelRouter` have in common."""

    @overload
    def channel(
        self,
        pattern: str,
        *,
        message: type[Stream[T]],
        publish: Who = ...,
        read: Who = ...,
        **options: Unpack[Options],
    ) -> ChannelRoute[T | None]: ...
    @overload
    def channel(
        self, pattern: str, *, message: type[T], publish: Who = ..., read: Who = ..., **options: Unpack[Options]
    ) -> ChannelRoute[T]: ...
    @overload
    def channel(
        self,
        pattern: str,
        *,
        message: Any = ...,
        publish: Who = ...,
        read: Who = ...,
        discriminator: str = ...,
        **options: Unpack[Options],
    ) -> ChannelRoute[Any]: ...
    def channel(
        self,
        pattern: str,
        *,
        message: Any = None,
        publish: Who = SUBSCRIBERS,
        read: Who = SUBSCRIBERS,
        discriminator: str = "",
        **options: Unpack[Options],
    ) -> ChannelRoute[Any]:
        """Declare the channels of a pattern, such as ``chat:{room}`` or ``orders:{id:int}``.

        ``options`` are those of a namespace (`settings.ChannelOptions`): ``history_size``, ``presence``, …. With
        ``history_size``, returning clients recover what they missed. ``message`` is the type of what subscribers
        receive, if no handler tells, and of what the program reads; ``Stream[str]`` for what `Gateway.stream` makes of
        an iterator of str. ``discriminator`` is the field that names the channel's events, unless it is ``event``.
        ``on_publish`` is asked for clients that are subscribed, with ``publish="anyone"`` for all that are connected;
        ``on_presence`` and ``on_history``, likewise, with ``read``. Of two patterns for one name, the one declared
        first counts; all come before the settings' namespaces. Raises `SettingsError`, also for a pattern whose names
        others take already, ``TypeError`` for an option that there is not, or ``ValueError`` for a pattern that cannot
        be read.
        """
        return self._channel(
            Declaration(
                pattern=pattern,
                options=options,
                message=message,
                publish=publish,
                read=read,
                discriminator=discriminator,
            )
        )

    @overload
    def rpc(self, name: str) -> Callable[[F], F]: ...
    @overload
    def rpc(self, name: F) -> F: ...
    def rpc(self, name: str | F) -> Any:
        """Answer what clients call by this name: ``client.rpc(name, data)`` in the SDKs.

        ``@gateway.rpc`` alone takes the function's own name.
        """
        if callable(name):
            if not (own := getattr(name, "__name__", "")).isidentifier():
                raise SignatureError(f'{name_of(name)} has no name; write @gateway.rpc("rooms")')
            self._procedure(own, name)
            return name

        def declare(call: F) -> F:
            self._procedure(name, call)
            return call

        return declare

    @abstractmethod
    def _channel(self, declared: Declaration) -> ChannelRoute[Any]: ...

    @abstractmethod
    def _procedure(self, name: str, call: Callable[..., Any]) -> None: ...
