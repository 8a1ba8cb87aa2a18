"""What is written into a map for what a client asks, as handlers return it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway.channels import Channel
from gateway.errors import Error, ErrorCode
from gateway.maps.base import NO_EXTRAS, MapWrite
from gateway.messages import Publication
from gateway.program.encoding import is_text
from gateway.program.errors import check_write
from gateway.program.routes.publishing import accepted
from gateway.program.routes.returns import Encode, Handled, Message
from gateway.session import Session
from gateway.session.application import AcceptedChange

KEY = "key"
"""The parameter of handlers that says which key is written."""

Decide = Callable[[Session, Channel, Publication], Awaitable[AcceptedChange]]


class Ask(Protocol):
    """Runs a handler; what it returns."""

    def __call__(self, session: Session, channel: Channel, data: bytes, *, key: str) -> Awaitable[Any]: ...


def deciding_publish(ask: Ask, encode: Encode) -> Decide:
    """By an ``on_publish``; ``encode`` makes data of what it returns."""

    async def decide(session: Session, channel: Channel, change: Publication) -> AcceptedChange:
        return _set(await ask(session, channel, change.data, key=change.key), change, encode)

    return decide


def deciding_remove(ask: Ask) -> Decide:
    """By an ``on_remove``."""

    async def decide(session: Session, channel: Channel, change: Publication) -> AcceptedChange:
        return _removed(await ask(session, channel, b"", key=change.key), change)

    return decide


def _set(returned: Any, change: Publication, encode: Encode) -> AcceptedChange:
    match returned:
        case None | True:
            return AcceptedChange(change)
        case Message(key=key, key_mode=key_mode, idempotency_key=once, delta=delta):
            if returned.skip_history or returned.exclude is not None:
                raise TypeError("in a map all is kept, and everybody told: a Message has no skip_history, no exclude")
            if not is_text(key):
                raise TypeError(f"a key is text, not {key!r:.100}")
            extras = check_write(MapWrite(key_mode=key_mode, idempotency_key=once, delta=delta))
        case _:
            key, extras = "", NO_EXTRAS
    publication = accepted(returned, change, encode).publication
    if publication is None:
        return AcceptedChange(None)
    publication.key = key or change.key
    return AcceptedChange(publication, extras)


def _removed(returned: Any, change: Publication) -> AcceptedChange:
    match returned:
        case None | True:
            return AcceptedChange(change)
        case False:
            raise Error(ErrorCode.PERMISSION_DENIED)
        case Handled():
            return AcceptedChange(None)
    raise TypeError(f"on_remove must return None, a bool or HANDLED, not {returned!r}")
