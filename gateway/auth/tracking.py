"""Signatures of the keys that a user may track in a channel.

Source: Centrifuge protocol, "Track". A signature is ``<iat>:<expiry>:<hex>``.
"""

import hashlib
import hmac
from collections.abc import Sequence

from gateway.config.settings.polls import PollSettings


def sign_keys(secret: str, iat: int, expiry: int, user: str, channel: str, keys: Sequence[str]) -> str:
    """The signature of these keys, in this order; with ``expiry`` 0 it has no end."""
    digest = hashlib.sha256("\0".join(keys).encode()).hexdigest()
    text = "\0".join((str(iat), str(expiry), user, channel, digest))
    return f"{iat}:{expiry}:{hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()}"


def signed_until(settings: PollSettings, signature: str, user: str, channel: str, keys: Sequence[str]) -> int | None:
    """When a signature ends (Unix seconds; 0 is never); None if it is none of this user, channel and keys."""
    numbers = signature.split(":")[:2]
    if len(numbers) < 2 or not all(each.isascii() and each.isdecimal() and len(each) < 16 for each in numbers):
        return None
    iat, expiry = map(int, numbers)
    secrets = [settings.hmac_secret_key]
    valid_until = settings.hmac_previous_secret_key_valid_until
    if not valid_until or iat <= valid_until:
        secrets.append(settings.hmac_previous_secret_key)
    given = signature.encode(errors="replace")
    good = [
        hmac.compare_digest(sign_keys(each, iat, expiry, user, channel, keys).encode(), given)
        for each in secrets
        if each
    ]
    return expiry if any(good) else None
