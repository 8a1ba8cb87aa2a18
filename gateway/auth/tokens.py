"""Tokens (JWT): who may connect, and who may subscribe to a channel.

Source: Centrifuge protocol, connection and subscription tokens.
"""

import base64
import binascii
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from jwt import InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError, PyJWTError
from msgspec import Meta, Raw, Struct

from gateway.auth.claims import MAX_TOKEN_LENGTH, Moment, header, user_id
from gateway.auth.keys import KeyRefused, Keyring, Verified, configured, read, sign
from gateway.config.settings import ChannelOptions, ClientSettings, TokenSettings
from gateway.health import Condition
from gateway.messages import Payload, opaque

if TYPE_CHECKING:
    from gateway.auth.remote_keys import RemoteKeys

_LATEST = 2**32 - 1
"""Expiry is held to this (the year 2106), since time to live is a 32-bit number on the wire."""


class TokenRefused(Exception):  # noqa: N818  the field's word for it
    """A token is no good. The text is for the log, not for the client, and ``claim`` says what is wrong, in a word."""

    key = ""
    """Name of the key that has signed it, for logs; empty if none of ours has."""

    def __init__(self, text: str, claim: str) -> None:
        super().__init__(text)
        self.claim = claim


class TokenInvalid(TokenRefused):
    """The token is forged, damaged or meant for something else."""


class TokenExpired(TokenRefused):
    """The token is genuine, but its time has passed or has not begun. A new one will do."""


class Override(Struct, frozen=True):
    """Channel options that are changed for one subscription, as by its token; None leaves one as it is."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_push_join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None
    replay: bool | None = None

    def apply(self, options: ChannelOptions) -> ChannelOptions:
        return options if self == _NO_OVERRIDE else _overridden(options, self)


_NO_OVERRIDE = Override()


@lru_cache(1024)  # subscribers with the same override share one object
def _overridden(options: ChannelOptions, override: Override) -> ChannelOptions:
    changes = {name: value for name, value in msgspec.structs.asdict(override).items() if value is not None}
    return options.model_copy(update=changes)


class Grant(Struct, frozen=True):
    """What a token says about one subscription: ``chan_info``, data of the subscribe result, options."""

    info: Payload | None = None
    data: Payload | None = None
    override: Override = _NO_OVERRIDE
    cache_recover: bool = False
    """Whether it is given the newest publication unasked, in a channel that recovers by that."""


class ConnectionToken(Struct, frozen=True):
    """A verified connection token. ``expire_at`` is in Unix seconds, 0 is never; it may have passed already."""

    user: str
    expire_at: int = 0
    info: Payload | None = None
    meta: Payload | None = None
    subs: dict[str, Grant] = {}
    key: str = ""
    """Name of the key that has signed it, for logs; empty if signatures are not looked at."""


class SubscriptionToken(Struct, frozen=True):
    """A verified subscription token. The caller compares user, channel and, unless empty, client."""

    user: str
    channel: str
    client: str = ""
    expire_at: int = 0
    grant: Grant = Grant()
    key: str = ""
    """As in `ConnectionToken`."""


class TokenVerifier:
    """Verifies tokens, and waits for nothing: where keys are fetched, whoever has a token has them fetched before.

    Raises ``SettingsError`` for keys that cannot be used. ``fetches`` counts those of keys, by whether they succeeded.
    """

    def __init__(
        self,
        settings: ClientSettings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        fetches: Counter[bool] | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._fetches: Counter[bool] = Counter() if fetches is None else fetches
        self.connection_keys: RemoteKeys | None = None
        """Keys of connection tokens that are fetched, if they are."""
        self.subscription_keys: RemoteKeys | None = None
        self.reload(settings)

    def reload(self, settings: ClientSettings) -> None:
        """Go by other keys from now on. Raises ``SettingsError``, and then goes by those it has."""
        connection, keys = self._checker(settings, "token", self.connection_keys)
        subscription, subscription_keys = connection, keys
        if settings.subscription_token.enabled:
            subscription, subscription_keys = self._checker(settings, "subscription_token", self.subscription_keys)
        before = self._fetched
        self._connection, self._subscription = connection, subscription
        self.connection_keys, self.subscription_keys = keys, subscription_keys
        self.fetches_keys = bool(self._fetched)
        """Whether any keys are."""
        for gone in before - self._fetched:
            gone.close()
        self.has_keys = connection.has_keys
        """Whether any connection token can be verified here."""
        self.has_subscription_keys = subscription.has_keys

    def _checker(
        self, settings: ClientSettings, name: str, before: "RemoteKeys | None"
    ) -> "tuple[_Checker, RemoteKeys | None]":
        """What checks tokens of a kind, and the keys that are to be fetched for it; ``before``, if they do."""
        tokens: TokenSettings = getattr(settings, name)
        section = f"client.{name}"
        if settings.insecure_skip_token_signature_verify:
            return _Checker(tokens, section, read, self._clock), None
        if not tokens.jwks_public_endpoint:
            keyring = Keyring(configured(tokens, section, self._clock))
            return _Checker(tokens, section, keyring.verify, self._clock, keyring.algorithms), None
        from gateway.auth.remote_keys import RemoteKeys  # its HTTP client takes a while to import, for nothing mostly

        keys = RemoteKeys(tokens, section, self._monotonic, self._fetches)
        if before is not None and before.serves(keys):
            keys = before
        return _Checker(tokens, section, keys.verify, self._clock), keys

    def fetch_keys(self) -> None:
        """Fetch those that are published, and those that are here anew. In a running event loop."""
        for keys in self._fetched:
            keys.renew()

    def close(self) -> None:
        """Fetch none any more."""
        for keys in self._fetched:
            keys.close()

    def condition(self) -> Condition | None:
        """Keys that cannot be fetched just now, if there are any."""
        return next((found for keys in self._fetched if (found := keys.condition()) is not None), None)

    @property
    def _fetched(self) -> "set[RemoteKeys]":
        return {keys for keys in (self.connection_keys, self.subscription_keys) if keys is not None}

    def connection(self, token: str) -> ConnectionToken:
        """Raises ``TokenInvalid`` or ``TokenExpired``."""
        return self._connection.check(token, _connection)

    def subscription(self, token: str) -> SubscriptionToken:
        """Raises ``TokenInvalid`` or ``TokenExpired``."""
        return self._subscription.check(token, _subscription)


# — claims —


class _Flag(Struct):
    value: bool = False


class _OverrideClaims(Struct):
    presence: _Flag | None = None
    join_leave: _Flag | None = None
    force_push_join_leave: _Flag | None = None
    force_recovery: _Flag | None = None
    force_positioning: _Flag | None = None


class _GrantClaims(Struct):
    info: Raw = Raw()
    b64info: str | None = None
    data: Raw = Raw()
    b64data: str | None = None
    override: _OverrideClaims | None = None


class _Claims(_GrantClaims):
    sub: str | None = None
    exp: Moment = None
    nbf: Moment = None
    expire_at: Annotated[float, Meta(ge=0)] | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    channels: list[str] | None = None
    subs: dict[str, _GrantClaims | None] | None = None
    meta: Raw = Raw()
    channel: str | None = None
    client: str | None = None


_Token = TypeVar("_Token")
"""What is made of a token."""

_claims = msgspec.json.Decoder(_Claims)
_raw_claims = msgspec.json.Decoder(dict[str, Raw])

_NULL = Raw(b"null")


class _Checker:
    """Signature, then issuer and audience, then times: a stranger learns nothing from the answer."""

    def __init__(
        self,
        settings: TokenSettings,
        section: str,
        unseal: Callable[[str], Verified],
        clock: Callable[[], float],
        algorithms: Collection[str] | None = None,
    ) -> None:
        """``unseal`` looks at the signature; ``algorithms`` are those that there are keys for, where that is known."""
        self.has_keys = algorithms is None or bool(algorithms)
        self._unseal = unseal
        self._algorithms = algorithms or ()
        self._settings = settings
        self._section = section
        self._clock = clock
        # read out of the model, which answers slowly
        self._user_claim = settings.user_id_claim
        self._has_origin = bool(
            settings.audience or settings.audience_regex or settings.issuer or settings.issuer_regex
        )

    def check(self, token: str, make: Callable[[_Claims, str], _Token]) -> _Token:
        """What is made of the claims and the name of the key that has signed."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenInvalid(f"longer than {MAX_TOKEN_LENGTH} characters", "size")
        try:
            verified = self._unseal(token)
        except (PyJWTError, UnicodeError, RecursionError) as error:
            raise self._invalid(error, token) from error
        try:
            return make(self._read(verified.payload), verified.key)
        except (TokenInvalid, TokenExpired) as error:
            error.key = verified.key
            raise

    def _read(self, payload: bytes) -> _Claims:
        """The claims, with the user's id as ``sub``, and ``exp`` as ``expire_at`` if that says nothing else."""
        try:
            claims = _claims.decode(payload)
            if self._user_claim:
                claims.sub = self._user(payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._invalid(error) from error
        if self._has_origin:
            self._check_origin(claims)
        # No leeway: a client whose token has just expired only fetches a new one.
        if claims.exp is not None:
            exp = _seconds(claims.exp, "exp") if isinstance(claims.exp, str) else claims.exp
            if self._clock() >= exp:
                raise TokenExpired("exp has passed", "exp")
            if claims.expire_at is None:
                claims.expire_at = exp
        if claims.nbf is not None:
            nbf = _seconds(claims.nbf, "nbf") if isinstance(claims.nbf, str) else claims.nbf
            if self._clock() < nbf:
                raise TokenExpired("nbf is not reached", "nbf")
        return claims

    def _invalid(self, error: Exception, token: str = "") -> TokenInvalid:
        """Which claim is wrong, or which key is missing."""
        if isinstance(error, KeyRefused):
            return TokenInvalid(str(error), error.claim)
        if isinstance(error, InvalidKeyError):
            return TokenInvalid(f"{self._section} has no key to verify it with", "key")
        if isinstance(error, InvalidAlgorithmError):
            known = ", ".join(sorted(self._algorithms))
            return TokenInvalid(f"{header(token)}, and {self._section} has keys for {known} only", "alg")
        if isinstance(error, InvalidSignatureError):
            return TokenInvalid(f"{header(token)}, and no key of {self._section} has signed it", "signature")
        found = re.search(r"at `\$\.(\w+)", str(error)) if isinstance(error, msgspec.ValidationError) else None
        claim = found[1] if found and found[1] in _Claims.__struct_fields__ else "format"
        return TokenInvalid(f"{str(error).replace(' | null', '')!r:.200}", claim)

    def _user(self, payload: bytes) -> str:
        name = self._user_claim
        try:
            return user_id(_raw_claims.decode(payload).get(name, _NULL))
        except (msgspec.DecodeError, UnicodeError) as error:
            raise TokenInvalid(f"{name} is neither text nor a number", "sub") from error

    def _check_origin(self, claims: _Claims) -> None:
        settings = self._settings
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        issuers = [] if claims.iss is None else [claims.iss]
        if not _meets(settings.audience, settings.audience_regex, audiences):
            raise TokenInvalid(f"wrong audience (aud): {self._section}.audience is another", "aud")
        if not _meets(settings.issuer, settings.issuer_regex, issuers):
            raise TokenInvalid(f"wrong issuer (iss): {self._section}.issuer is another", "iss")


def _connection(claims: _Claims, key: str) -> ConnectionToken:
    if claims.channel is not None:
        raise TokenInvalid("a subscription token (it has a channel claim) cannot open a connection", "channel")
    subs: dict[str, Grant] = {}
    if claims.subs:
        subs = {channel: _grant(grant or _GrantClaims()) for channel, grant in claims.subs.items()}
    elif claims.channels:
        subs = dict.fromkeys(claims.channels, Grant())
    return ConnectionToken(
        claims.sub or "",
        int(min(claims.expire_at or 0, _LATEST)),
        _payload(claims.info, claims.b64info) if claims.info or claims.b64info else None,
        _meta(claims.meta) if claims.meta else None,
        subs,
        key,
    )


def _subscription(claims: _Claims, key: str) -> SubscriptionToken:
    if not claims.channel:
        raise TokenInvalid("a subscription token needs a channel claim", "channel")
    expire_at = int(min(claims.expire_at or 0, _LATEST))
    return SubscriptionToken(claims.sub or "", claims.channel, claims.client or "", expire_at, _grant(claims), key)


def _meets(exact: str, pattern: str, values: list[str]) -> bool:
    if exact and exact not in values:
        return False
    return not pattern or any(re.search(pattern, value) for value in values)


def _seconds(moment: str, claim: str) -> float:
    try:
        return msgspec.json.decode(moment, type=float)
    except msgspec.DecodeError as error:
        raise TokenInvalid(f"{claim} is no number: {moment!r:.40}", claim) from error


def _grant(claims: _GrantClaims) -> Grant:
    override = _NO_OVERRIDE
    if claims.override:
        flags = {name: flag and flag.value for name, flag in msgspec.structs.asdict(claims.override).items()}
        override = Override(**flags)
    return Grant(
        _payload(claims.info, claims.b64info) if claims.info or claims.b64info else None,
        _payload(claims.data, claims.b64data) if claims.data or claims.b64data else None,
        override,
    )


def _payload(plain: Raw, encoded: str | None) -> Payload | None:
    """JSON on one line, since frames are split at line ends; ``encoded`` (base64) wins over ``plain``.

    In base64 it may be anything else, too.
    """
    data = bytes(plain)
    if encoded:
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise TokenInvalid("b64info or b64data is not base64", "info") from error
    if data in (b"", b"null"):
        return None
    try:
        msgspec.json.decode(data)  # format alone does not see bytes that are not UTF-8
        return Payload(msgspec.json.format(data, indent=-1))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if encoded:
            return opaque(data)
        raise TokenInvalid("info and data must be valid JSON", "info") from error


def _meta(plain: Raw) -> Payload | None:
    meta = _payload(plain, None)
    if meta and not meta.startswith(b"{"):
        raise TokenInvalid("meta must be an object", "meta")
    return meta


# — signing, for the command line and the demo page; backends sign with a JWT library of their own —


def sign_connection(secret: str, user: str, ttl: float = 0, now: float | None = None, **claims: Any) -> str:
    """A connection token (HS256) for ``user``, good for ``ttl`` seconds (0: for ever), with further ``claims``."""
    return _sign(secret, user, ttl, now, claims)


def sign_subscription(
    secret: str, user: str, channel: str, ttl: float = 0, now: float | None = None, **claims: Any
) -> str:
    """A subscription token (HS256) for ``user`` and ``channel``, otherwise as ``sign_connection``."""
    return _sign(secret, user, ttl, now, {"channel": channel, **claims})


def _sign(secret: str, user: str, ttl: float, now: float | None, claims: Mapping[str, Any]) -> str:
    issued = int(time.time() if now is None else now)
    expiry = {"exp": issued + int(ttl)} if ttl else {}
    payload = msgspec.json.encode({"sub": user, "iat": issued, **expiry, **claims})
    return sign(payload, secret)
