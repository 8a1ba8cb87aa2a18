"""How what a handler raises reaches the client: one place for all of it.

| raised | the client gets |
|---|---|
| `Error`, `Disconnect` | just that; of a disconnect the first 123 bytes of the reason |
| `HTTPException` 400, 401, 403, 404, 429 | error 107, 101, 103, 102, 111, with ``detail`` as its message (or as JSON) |
| `TokenExpired`, or 401 of a JWT that has expired | error 109: the SDKs ask for another token |
| any other `HTTPException` below 500 | an error with the status as its code |
| `HTTPException` from 500 on | error 100, temporary: the SDKs try again |
| `WebSocketException`, `Disconnect` 1008 | disconnect 3507; 1003 and 1007: 3501; from 3000 on as it is; others: 3004 |
| data, path, header or cookie that does not validate | error 107, with what is wrong |
| anything else | error 100, and a traceback in the log |
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException, WebSocketException

from gateway.errors import LONGEST_REASON, Disconnect, DisconnectCode, Error, ErrorCode

LONGEST = 500
"""Characters of a message made of what does not validate."""

_ERRORS = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.UNKNOWN_CHANNEL,
    422: ErrorCode.BAD_REQUEST,
    429: ErrorCode.TOO_MANY_REQUESTS,
}

_DISCONNECTS = {
    1003: DisconnectCode.BAD_REQUEST,
    1007: DisconnectCode.BAD_REQUEST,
    1008: DisconnectCode.PERMISSION_DENIED,
}

APPLICATION_CODES = range(3000, 5000)


def translate(failure: Exception, token_expired: Callable[[], bool] = lambda: False) -> Exception:
    """An `Error` or `Disconnect` for what a handler has raised; a defect stays what it is.

    ``token_expired`` says whether the client has sent a token whose time has passed.
    """
    match failure:
        case Disconnect(code=code, reason=reason):
            return _closing(code, reason)
        case HTTPException(status_code=401, detail=detail, headers=headers):
            return _error(401, detail, _wants_another(headers or {}) or token_expired())
        case HTTPException(status_code=status, detail=detail):
            return _error(status, detail)
        case WebSocketException(code=code, reason=reason):
            return _closing(code, reason)
        case RequestValidationError() | WebSocketRequestValidationError():
            return invalid(failure.errors())
    return failure


def invalid(errors: Sequence[Any]) -> Error:
    """Bad request, and what is wrong; the values themselves stay out of it."""
    text = "; ".join(f"{_location(each['loc'])}{each['msg']}" for each in errors)
    return Error(ErrorCode.BAD_REQUEST, f"bad request: {text}"[:LONGEST])


def _closing(code: int, reason: str) -> Disconnect:
    """With a code that the SDKs know, and a reason that a close frame can carry."""
    known = code if code in APPLICATION_CODES else _DISCONNECTS.get(code, DisconnectCode.INTERNAL)
    return Disconnect(known, reason.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore"))


def _wants_another(headers: Mapping[str, str]) -> bool:
    """Whether a 401 says that the token will not do (RFC 6750, section 3.1), and not just that there is none."""
    return bool(_INVALID.search(Headers(headers).get("WWW-Authenticate", "")))


_INVALID = re.compile(r'\berror\s*=\s*"?invalid_token\b')


def _error(status: int, detail: Any, expired: bool = False) -> Error:
    # what JSON has not is shown as text: a refusal must not become a defect
    message = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False, default=str)
    if status >= 500:
        return Error(ErrorCode.INTERNAL, message)
    return Error(ErrorCode.TOKEN_EXPIRED if expired else _ERRORS.get(status, status), message)


def _location(location: Sequence[Any]) -> str:
    """``room: `` for a parameter, ``text: `` for a field of the data."""
    words = [str(each) for each in location[1:]]
    return f"{'.'.join(words)}: " if words else ""
