"""What becomes of a token that is no good, and of one whose key is to be fetched.

A code says whether a bad one closes the connection, or answers a command.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.auth.tokens import TokenExpired, TokenInvalid, TokenVerifier
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, KeysUnavailable
from gateway.messages import ConnectRequest, RefreshRequest, SubRefreshRequest, SubscribeRequest

if TYPE_CHECKING:
    from gateway.auth.remote_keys import RemoteKeys

Code = DisconnectCode | ErrorCode

INVALID, EXPIRED = DisconnectCode.INVALID_TOKEN, ErrorCode.TOKEN_EXPIRED

_Token = TypeVar("_Token")


def verified(verify: Callable[[str], _Token], text: str, invalid: Code = INVALID, expired: Code = EXPIRED) -> _Token:
    """What a token says. Raises what the codes say if it is not genuine, or its time is over."""
    try:
        return verify(text)
    except TokenInvalid as error:
        raise _failure(invalid) from error
    except TokenExpired as error:
        raise _failure(expired) from error


class Asker(Protocol):
    """A session; as text it is its name in logs."""

    @property
    def node(self) -> Node: ...

    @property
    def tokens(self) -> TokenVerifier: ...

    @property
    def closed(self) -> bool: ...


def lacks_key(tokens: TokenVerifier, request: Any) -> bool:
    """Whether the key that a request's token needs is to be fetched first."""
    if not tokens.fetches_keys:
        return False
    keys = _keys_for(tokens, request)
    return keys is not None and bool(request.token) and not keys.has(request.token)


async def fetch_key(session: Asker, request: Any) -> None:
    """Fetch the key that a request lacks, so that its token can be verified.

    Raises ``KeysUnavailable``, which is temporary, or ``Disconnect`` if the client has gone meanwhile.
    """
    keys = _keys_for(session.tokens, request)
    assert keys is not None
    try:
        await keys.fetch(request.token)
    except KeysUnavailable as error:
        session.node.refusals.happened("keys_away", "%s: token not looked at: %s", str(session), error.problem)
        raise
    if session.closed:
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED)


def _keys_for(tokens: TokenVerifier, request: Any) -> "RemoteKeys | None":
    match request:
        case ConnectRequest() | RefreshRequest():
            return tokens.connection_keys
        case SubscribeRequest() | SubRefreshRequest():
            return tokens.subscription_keys
    return None


def check_moment(node: Node, expire_at: int, passed: Code = ErrorCode.EXPIRED) -> None:
    """Raises what the code says if the moment (Unix seconds; 0 is never) has passed."""
    if 0 < expire_at <= node.clock():
        raise _failure(passed)


def _failure(code: Code) -> Disconnect | Error:
    return Disconnect(code) if isinstance(code, DisconnectCode) else Error(code)
