"""What becomes of a token that is no good: a code says whether that closes the connection, or answers a command."""

from collections.abc import Callable
from typing import TypeVar

from gateway.auth.tokens import TokenExpired, TokenInvalid
from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode

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


def check_moment(node: Node, expire_at: int, passed: Code = ErrorCode.EXPIRED) -> None:
    """Raises what the code says if the moment (Unix seconds; 0 is never) has passed."""
    if 0 < expire_at <= node.clock():
        raise _failure(passed)


def _failure(code: Code) -> Disconnect | Error:
    return Disconnect(code) if isinstance(code, DisconnectCode) else Error(code)
