"""Secrets that can be guessed."""

import re
from collections.abc import Iterator

from gateway.config.settings import Settings, TokenSettings

SECRET_SIZE = 32
"""Least bytes of a secret that signs: as long as the hash of HS256 (RFC 7518, section 3.2)."""

KEY_SIZE = 16
"""Least bytes of an API key, and of the operators' password: 128 bits, if it is random."""

LETTERS = 8
"""Least different characters of either: 32 random hexadecimal digits have as many, but once in 100,000 times."""

DEV_SECRET = "gateway-dev-secret-that-everybody-knows"  # noqa: S105  known to all: dev instances accept each other's tokens
"""Signs tokens in dev mode when no other secret is configured."""

_KNOWN = re.compile(
    r"(your|my|some|the|a|very|super|top)?[-_ ]*(256|384|512)?[-_ ]*(bit)?[-_ ]*"
    r"(secret|password|passwd|change[-_ ]?me|changeit|key|token|example|test|admin|default|123456\d*|qwerty)"
    r"[-_ ]*(key|secret|value|here|text)?\d*",
    re.IGNORECASE,
)
_RANDOM = 'take the output of "openssl rand -hex 32"'


def find_weak(settings: Settings) -> Iterator[str]:
    """A line for each secret that is short, or that is in every word list; of none its text."""
    admin = settings.admin
    if not (settings.client.insecure or settings.http_api.insecure):  # else they are open anyhow, and said to be
        yield from _weak_keys(settings)
    if admin.enabled and not admin.insecure:
        yield from _weak("admin.password", admin.password, KEY_SIZE)
        yield from _weak("admin.secret", admin.secret, SECRET_SIZE)
    for app in settings.pusher.apps if settings.pusher.enabled else ():
        for secret in (app.secret, *(each.secret for each in app.former_keys)):
            yield from _weak(f'pusher.apps: a secret of the app "{app.id}"', secret, KEY_SIZE)


def _weak_keys(settings: Settings) -> Iterator[str]:
    client = settings.client
    sections: list[tuple[str, TokenSettings]] = [("client.token", client.token)]
    if client.subscription_token.enabled:
        sections.append(("client.subscription_token", client.subscription_token))
    for section, tokens in sections:
        for name in ("hmac_secret_key", "hmac_previous_secret_key"):
            yield from _weak(f"{section}.{name}", getattr(tokens, name), SECRET_SIZE)
        for name, secret in tokens.hmac_secret_keys.items():
            yield from _weak(f"{section}.hmac_secret_keys.{name}", secret, SECRET_SIZE)
    for name in ("hmac_secret_key", "hmac_previous_secret_key"):
        yield from _weak(f"shared_poll.{name}", getattr(settings.shared_poll, name), SECRET_SIZE)
    yield from _weak("http_api.key", settings.http_api.key, KEY_SIZE)
    for name, key in settings.http_api.keys.items():
        yield from _weak(f"http_api.keys.{name}", key, KEY_SIZE)


def _weak(key: str, secret: str, least: int) -> Iterator[str]:
    if not secret:
        return
    size = len(secret.encode())
    if secret == DEV_SECRET or _KNOWN.fullmatch(secret):
        yield f"{key} is a word that everybody knows; {_RANDOM}"
    elif size < least:
        yield f"{key} can be guessed, for it is shorter ({size}) than {least} bytes; {_RANDOM}"
    elif len(set(secret)) < LETTERS:
        yield f"{key} can be guessed, for it has few different characters ({len(set(secret))}); {_RANDOM}"
