"""Would this page, and this token, be let in? By the settings alone: no gateway need run."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.auth.endpoint import name_of
from gateway.auth.tokens import TokenExpired, TokenInvalid, TokenVerifier
from gateway.config.settings import Settings, TokenSettings
from gateway.doctor.finding import About, Finding
from gateway.errors import KeysUnavailable
from gateway.metrics import Metrics
from gateway.transports import admission

Clock = Callable[[], float]


def examine_origin(settings: Settings, origin: str, host: str, *, same_origin: bool) -> Iterator[Finding]:
    """``host`` is that of the gateway's own address, as the page names it; ``same_origin`` as in `Gateway`."""
    about = About(f"origin {origin}")
    wanted = _origin_of(origin)
    if wanted != origin:
        example = wanted or "https://example.com"
        yield about.problem("is no origin, which is a scheme and a host, and maybe a port", f"write {example}")
        return
    scope = {"headers": [(b"origin", origin.encode()), (b"host", host.encode())]}
    gate = admission.Admission(settings.client, Metrics(time.time), time.time, same_origin=same_origin)
    was, admission.log.disabled = admission.log.disabled, True  # it is no connection that is refused
    try:
        refusal = gate.forbid(admission.Scoped(scope))
    finally:
        admission.log.disabled = was
    if refusal is None:
        yield about.ok("pages of it may connect")
        return
    listed = ", ".join(settings.client.allowed_origins) or "nothing"
    origins = [*settings.client.allowed_origins, origin.lower()]
    yield about.problem(
        f"pages of it get {refusal.status}: client.allowed_origins has {listed}",
        f"client.allowed_origins = {msgspec.json.encode(origins).decode()}",
    )


def _origin_of(url: str) -> str:
    """Scheme, host and port of an address; empty for what is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""


async def look_at_token(settings: Settings, token: str, clock: Clock = time.time) -> list[Finding]:
    """The same as `examine_token`, where keys may have to be fetched."""
    verifier = TokenVerifier(settings.client, clock)
    is_subscription = (read_claims(token) or {}).get("channel") is not None
    keys = verifier.subscription_keys if is_subscription else verifier.connection_keys
    try:
        if keys is not None:
            await keys.fetch(token)
    except KeysUnavailable as error:
        remedy = "see that this machine reaches it, and that it answers with keys; the gateway asks it just so"
        return [About("token").problem(f"its key cannot be fetched: {error.problem}", remedy)]
    finally:
        verifier.close()
    return list(examine_token(settings, token, clock, verifier))


def examine_token(
    settings: Settings, token: str, clock: Clock = time.time, verifier: TokenVerifier | None = None
) -> Iterator[Finding]:
    """A connection token, or one for a channel, by what it claims. ``verifier`` has the keys that are fetched."""
    about = About("token")
    claims = read_claims(token)
    if claims is None:
        yield about.problem(
            "is no JWT: three parts in base64url, with dots between them, of which the second is a JSON object",
            "look at what the backend sends; for trying out: gateway token --user ann",
        )
        return
    is_subscription = claims.get("channel") is not None
    section = "client.subscription_token" if is_subscription and settings.client.subscription_token.enabled else ""
    keys: TokenSettings = settings.client.subscription_token if section else settings.client.token
    section = section or "client.token"
    verifier = verifier or TokenVerifier(settings.client, clock)
    try:
        if is_subscription:
            subscription = verifier.subscription(token)
            yield about.ok(f'lets the user "{subscription.user}" subscribe to {subscription.channel}')
        else:
            connection = verifier.connection(token)
            user = f'the user "{connection.user}"' if connection.user else "an anonymous user"
            yield about.ok(f"lets {user} connect{_until(claims, clock())}")
            if not connection.user and settings.client.disallow_anonymous_connection_tokens:
                yield about.problem(
                    f"has no user ({keys.user_id_claim or 'sub'})",
                    "name the user in it, or set client.disallow_anonymous_connection_tokens = false",
                )
    except TokenExpired as error:
        yield about.problem(f"{error}: {_moment(claims, str(error).split()[0], clock())}", _TIMES)
    except TokenInvalid as error:
        yield about.problem(str(error), _remedy(error.claim, token, keys, section))


_TIMES = (
    "let the client fetch a new one (getToken of the SDKs); if it is new, compare the clocks of this machine and of "
    "the one that signs"
)


def read_claims(token: str) -> dict[str, Any] | None:
    """What a JWT claims, whoever has signed it; None if it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    return _part(parts[1])


def _part(text: str) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _remedy(claim: str, token: str, keys: TokenSettings, section: str) -> str:
    """What to do about a token that is no good, by what is wrong with it (``TokenRefused.claim``)."""
    claims = read_claims(token) or {}
    match claim:
        case "aud":
            wanted = keys.audience or keys.audience_regex
            return f"sign with aud = {wanted!r}, which {section} wants; it has {claims.get('aud')!r}"
        case "iss":
            wanted = keys.issuer or keys.issuer_regex
            return f"sign with iss = {wanted!r}, which {section} wants; it has {claims.get('iss')!r}"
        case "alg" | "key" if keys.jwks_public_endpoint:
            return (
                f"have its kid name a key at {name_of(keys.jwks_public_endpoint)}, which has use = sig and is for the "
                "token's alg"
            )
        case "signature":
            return f"it was signed with another key than those of {section}: give both sides the same"
        case "alg" | "key":
            algorithm = (_part(token.split(".")[0]) or {}).get("alg")
            wanted = _KEYS.get(str(algorithm)[:2], _ANY_KEY)
            return f"it is signed by {algorithm}: give {section} a key for that ({wanted})"
    return "sign it as docs/tokens.md says"


_KEYS = {"HS": "hmac_secret_key", "RS": "rsa_public_key", "ES": "ecdsa_public_key", "Ed": "jwks_public_endpoint"}
_ANY_KEY = ", ".join(_KEYS.values())


def _moment(claims: dict[str, Any], name: str, now: float) -> str:
    """When the claim says, from now."""
    seconds = float(claims[name]) - now
    return f"{name} was {-seconds:.0f} s ago" if seconds <= 0 else f"{name} is in {seconds:.0f} s"


def _until(claims: dict[str, Any], now: float) -> str:
    end = claims.get("exp")
    return ", for ever (it has no exp)" if end is None else f", for another {end - now:.0f} s"
