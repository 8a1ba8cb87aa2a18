"""What gateways and routers take alike: channels and procedures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

from fastapi.params import Depends

from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.declaration import Declaration
from gateway.program.routes.options import SUBSCRIBERS, Options, Who
from gateway.program.routes.signatures import SignatureError, check_dependencies, name_of
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
        dependencies: Sequence[Depends] = ...,
        **options: Unpack[Options],
    ) -> ChannelRoute[T | None]: ...
    @overload
    def channel(
        self,
        pattern: str,
        *,
        message: type[T],
        publish: Who = ...,
        read: Who = ...,
        dependencies: Sequence[Depends] = ...,
        **options: Unpack[Options],
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
        dependencies: Sequence[Depends] = ...,
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
        dependencies: Sequence[Depends] = (),
        **options: Unpack[Options],
    ) -> ChannelRoute[Any]:
        """Declare the channels of a pattern, such as ``chat:{room}`` or ``orders:{id:int}``.

        ``options`` are those of a namespace (`settings.ChannelOptions`): ``history_size``, ``presence``, …. With
        ``history_size``, returning clients recover what they missed. ``message`` is the type of what subscribers
        receive, if no handler tells, and of what the program reads; ``Stream[str]`` for what `Gateway.stream` makes of
        an iterator of str. ``discriminator`` is the field that names the channel's events, unless it is ``event``.
        ``dependencies`` run before whatever a client asks of the channels, and can refuse it.
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
                dependencies=check_dependencies(dependencies),
            )
        )

    @overload
    def rpc(self, name: str = "", *, dependencies: Sequence[Depends] = ()) -> Callable[[F], F]: ...
    @overload
    def rpc(self, name: F) -> F: ...
    def rpc(self, name: str | F = "", *, dependencies: Sequence[Depends] = ()) -> Any:
        """Answer what clients call by this name: ``client.rpc(name, data)`` in the SDKs.

        Without one it is the function's own, as in ``@gateway.rpc``. ``dependencies`` run before it, and can refuse.
        """
        if not isinstance(name, str):
            return self.rpc()(name)
        checked = check_dependencies(dependencies)

        def declare(call: F) -> F:
            own = name or getattr(call, "__name__", "")
            if not (name or own.isidentifier()):
                raise SignatureError(f'{name_of(call)} has no name; write @gateway.rpc("rooms")')
            self._procedure(own, call, checked)
            return call

        return declare

    @abstractmethod
    def _channel(self, declared: Declaration) -> ChannelRoute[Any]: ...

    @abstractmethod
    def _procedure(self, name: str, call: Callable[..., Any], dependencies: Sequence[Depends]) -> None: ...
