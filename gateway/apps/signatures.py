"""What the secrets of apps sign: subscriptions, users, requests of backends, and webhooks.

All are HMAC-SHA256 in lower-case hex. What is verified is the text as it came, and what cannot be right is told as a
mismatch: nothing here raises. Reasons name no secret, so clients may be told them.

Source: Pusher Channels protocol, "Auth signatures", "Authentication" of the HTTP API, "Webhooks".
"""

import hashlib
import hmac
from collections.abc import Sequence

from gateway.apps.base import App

SKEW = 600
"""Seconds that the clock of a backend may differ, either way."""

VERSION = "1.0"

Query = Sequence[tuple[str, str]]
"""Parameters of a request, decoded, in the order in which they came."""


def sign(secret: str, *parts: str) -> str:
    """The signature of texts, which colons separate."""
    return _hmac(secret, _bytes(":".join(parts)))


def sign_body(secret: str, body: bytes) -> str:
    """The signature of a webhook's body."""
    return _hmac(secret, body)


def verify_channel(app: App, auth: str, socket_id: str, channel: str, channel_data: str = "") -> str | None:
    """Why a subscription is not allowed by what its ``auth`` signs; None if it is. The channel by its outer name."""
    parts = [socket_id, channel, channel_data] if channel_data else [socket_id, channel]
    return _verify(app, auth, parts, "socket_id:channel, and :channel_data where that is sent")


def verify_user(app: App, auth: str, socket_id: str, user_data: str) -> str | None:
    """Why a client is not signed in by what its ``auth`` signs; None if it is."""
    return _verify(app, auth, [socket_id, "", "user", "", user_data], "socket_id::user::user_data")


def verify_request(
    app: App,
    method: str,
    path: str,
    query: Query,
    body: bytes,
    now: float,
    *,
    raw_path: str = "",
    root_path: str = "",
) -> str | None:
    """Why a request is not the backend's; None if it is.

    ``path`` is decoded, ``raw_path`` as it was sent: libraries sign one or the other. ``root_path`` is where the
    gateway is mounted, of which they know nothing. ``now`` is the time of day, in seconds.
    """
    given = {name.lower(): value for name, value in query}
    secret = app.secret(given.get("auth_key", ""))
    if secret is None:
        return "auth_key is none of the app's keys"
    if given.get("auth_version") != VERSION:
        return f"auth_version must be {VERSION}"
    if wrong := _problem_of_time(given.get("auth_timestamp", ""), now) or _problem_of_body(given, body):
        return wrong
    signature = given.get("auth_signature", "")
    paths = dict.fromkeys(each.removeprefix(root_path) for each in (path, raw_path) if each)
    if not any(_same(sign(secret, _signed(method, each, query)), signature) for each in paths):
        return "auth_signature does not match: it must be of METHOD, path and sorted query, each on a line of its own"
    return None


def sign_request(app: App, method: str, path: str, query: Query, body: bytes, now: float) -> list[tuple[str, str]]:
    """The whole query of a request that the app's key signs."""
    signed = [
        *query,
        ("auth_key", app.settings.key),
        ("auth_timestamp", str(int(now))),
        ("auth_version", VERSION),
        ("body_md5", _md5(body)),
    ]
    return [*signed, ("auth_signature", sign(app.settings.secret, _signed(method, path, signed)))]


def _verify(app: App, auth: str, parts: Sequence[str], what: str) -> str | None:
    key, colon, signature = auth.partition(":")
    if not colon:
        return "auth must be KEY:SIGNATURE"
    secret = app.secret(key)
    if secret is None:
        return "auth names none of the app's keys"
    if not _same(sign(secret, *parts), signature):
        return f"signature mismatch: it must be of {what}"
    return None


def _signed(method: str, path: str, query: Query) -> str:
    """What the signature of a request is of: parameters decoded, in the order of their names."""
    named = sorted(((name.lower(), value) for name, value in query), key=lambda each: each[0])
    values = "&".join(f"{name}={value}" for name, value in named if name != "auth_signature")
    return f"{method.upper()}\n{path}\n{values}"


def _problem_of_time(text: str, now: float) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        return "auth_timestamp must be the time in seconds"
    return "" if abs(now - int(text)) <= SKEW else f"auth_timestamp is more than {SKEW} seconds off the gateway's clock"


def _problem_of_body(given: dict[str, str], body: bytes) -> str:
    """Some libraries sign the absence of a body, too, others only that there is one."""
    said = given.get("body_md5")
    if said is None:
        return "body_md5 is missing" if body else ""
    return "" if _same(_md5(body), said) else "body_md5 is not that of the body"


def _same(expected: str, given: str) -> bool:
    """Whether they are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(expected.encode(), _bytes(given))


def _hmac(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _bytes(text: str) -> bytes:
    """Half characters, too, which match nothing."""
    return text.encode(errors="surrogatepass")
