"""Claims as issuers write them, where that is in more ways than one; and what a token claims, whoever has signed it."""

import re
from decimal import Decimal
from typing import Annotated

import jwt
import msgspec
from jwt import PyJWTError
from msgspec import Meta, Raw

MAX_TOKEN_LENGTH = 8192
"""Characters. Longer tokens are not looked at: headers of most servers end there, too."""

Moment = float | Annotated[str, Meta(max_length=32)] | None
"""Unix seconds (RFC 7519, NumericDate), which some libraries write as text."""

_DIGITS = re.compile(rb"-?\d+")


def seconds(moment: Moment) -> float | None:
    """Raises ``msgspec.DecodeError`` for a text that is no number."""
    return msgspec.json.decode(moment, type=float) if isinstance(moment, str) else moment


def user_id(claim: Raw) -> str:
    """A user's id: of a number its text, digit by digit and without exponent; of null the anonymous one.

    Raises ``msgspec.DecodeError`` for what is none.
    """
    if _DIGITS.fullmatch(claim):
        return bytes(claim).decode()
    found = msgspec.json.decode(claim, type=str | float | None)
    return format(Decimal(repr(found)), "f").removesuffix(".0") if isinstance(found, float) else found or ""


# — without a look at the signature —


def has_passed(token: str, now: float) -> bool:
    """Whether it is a JWT whose ``exp`` has passed, whoever has signed it."""
    if len(token) > MAX_TOKEN_LENGTH:
        return False
    try:
        claimed = jwt.decode(token, options={"verify_signature": False}).get("exp")
        exp = seconds(claimed)
    except (PyJWTError, msgspec.DecodeError, RecursionError):
        return False
    return isinstance(exp, int | float) and exp <= now


def claimed_user(token: str, claim: str = "") -> str:
    """Whom a token names, without a look at who has signed it; empty if it cannot be read."""
    try:
        found = jwt.decode(token, options={"verify_signature": False}).get(claim or "sub")
    except (PyJWTError, ValueError, RecursionError):
        return ""
    return "" if found is None else str(found)


def header(token: str) -> str:
    """What it says of its signature, as it stands there."""
    try:
        found = jwt.get_unverified_header(token)
    except PyJWTError:  # of other kinds than the library had when it refused it
        found = {}
    told = [f"{name} is {found[name]!r:.60}" for name in ("alg", "kid") if name in found]
    return ", ".join(told)
