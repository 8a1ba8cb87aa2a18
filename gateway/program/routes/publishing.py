"""What is published where ``on_publish`` returns no data.

| takes | returns | published |
|---|---|---|
| data | None, True | what it took: validated, converted, cut to its fields, with the handler's own changes |
| none | None, True | what the client sent, if the handler says ``-> None`` or ``-> bool`` |
| data or none | anything else | that, cut to its annotation, or else to the channel's ``message`` |

Where None and True could mean this or that, a handler is refused as it is declared.
"""

from collections.abc import Callable, Sequence
from inspect import isclass
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from fastapi.params import Depends

from gateway.brokers.base import PublishOptions
from gateway.errors import Error, ErrorCode
from gateway.messages import Exclusion, Payload, Publication
from gateway.program.encoding import encode_publication
from gateway.program.routes.events import PUBLISH
from gateway.program.routes.handlers import Answering, Handler
from gateway.program.routes.returns import HANDLED, Encode, Handled, Message
from gateway.program.routes.signatures import Event, members, name_of, refusal, returned
from gateway.session.application import Accepted

_SILENT = (None, Any)
"""A handler that does not say what it returns."""
_AGREES = (NoneType, bool)
_NULL = Payload(b"null")


class PublishHandler(Handler):
    """Gives the data that it took, as it is to be published, in place of None and True."""

    def __init__(
        self,
        call: Callable[..., Any],
        params: Sequence[str],
        pattern: str,
        message: Any,
        dependencies: Sequence[Depends] = (),
        event: Event = PUBLISH,
    ) -> None:
        super().__init__(call, event, params, pattern, dependencies)
        self._message = message
        if problem := self._ambiguity(message):
            raise refusal(call, event, params, pattern, problem)
        self._taken = Answering(call, read=lambda _: self.takes if message is None else message)

    async def _run(self, values: dict[str, Any]) -> Any:
        answer = await super()._run(values)
        if self.takes is None or not (answer is None or answer is True):
            return answer
        taken = values[self.data_name]
        return _NULL if taken is None else self._taken.encode(taken)

    def answering(self) -> Answering:
        """Makes data of what it returns."""
        return Answering(self.call, (bool, Message, Handled), message=self._message)

    def _ambiguity(self, message: Any) -> str:
        """What would be unclear if it returned None or True."""
        says = _members(returned(self.call))
        silent, agrees = says[0] in _SILENT, any(each in _AGREES for each in says)
        data = [each for each in says if each not in (*_SILENT, *_AGREES, Handled)]
        if data and (NoneType in says or (agrees and self.takes is None)):
            return (
                "says that it may return data or not: return what is to be published, HANDLED to publish nothing "
                "(`-> ChatMessage | Handled`), or False to refuse"
            )
        if self.takes is not None:
            if agrees and message is not None and not _is_among(self.takes, message):
                return f"takes {name_of(self.takes)}, while subscribers receive {name_of(message)}: return one"
        elif silent:
            return (
                "does not say what is published: take the client's data as a model, say what is returned "
                "(`-> ChatMessage`), or write `-> None` to publish unchecked whatever clients send"
            )
        elif agrees and message is not None:
            return f"lets pass whatever clients send, while subscribers receive {name_of(message)}: take that as data"
        elif agrees and self.takes_indirectly:
            return "lets pass whatever clients send, though a dependency checks the data: return what that gives"
        return ""


def accepted(returned: Any, publication: Publication, encode: Encode) -> Accepted:
    """What is published for what a handler has returned. Raises ``Error`` (103) if that is nothing."""
    if returned is False:
        raise Error(ErrorCode.PERMISSION_DENIED)
    if returned is HANDLED:
        return Accepted(None)
    message = returned if isinstance(returned, Message) else Message(encode(returned))
    data = message.data if isinstance(message.data, bytes) else encode(message.data)
    result = encode_publication(data, message.tags)
    result.info = publication.info
    result.exclude = Exclusion((message.exclude.id,)) if message.exclude is not None else None
    return Accepted(result, PublishOptions(message.skip_history, message.idempotency_key, delta=message.delta or None))


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return members(annotation)


def _is_among(kind: Any, wanted: Any) -> bool:
    """Whether all of one type is of the other, as far as can be told."""

    def fits(each: Any, other: Any) -> bool:
        return bool(each == other or other is Any or (isclass(each) and isclass(other) and issubclass(each, other)))

    return all(any(fits(each, other) for other in _members(wanted)) for each in _members(kind))
