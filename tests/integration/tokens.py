"""Tokens as an application would make them."""

import time
from typing import Any

import jwt

SECRET = "integration-secret-of-thirty-two-bytes"
API_KEY = "integration-key"


def connection_token(user: str, ttl: float | None = None, key: str = SECRET, **claims: Any) -> str:
    """A connection token; ``ttl`` in seconds may be negative."""
    return _sign({"sub": user, **claims}, ttl, key)


def subscription_token(user: str, channel: str, ttl: float | None = None, key: str = SECRET, **claims: Any) -> str:
    return _sign({"sub": user, "channel": channel, **claims}, ttl, key)


def unsigned_token(user: str, audience: str) -> str:
    """A token of the algorithm ``none``, which nobody should believe."""
    return jwt.encode({"sub": user, "aud": audience}, "", algorithm="none")


def _sign(claims: dict[str, Any], ttl: float | None, key: str) -> str:
    if ttl is not None:
        claims["exp"] = int(time.time() + ttl)
    return jwt.encode(claims, key, algorithm="HS256")
