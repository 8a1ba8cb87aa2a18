"""Who may use the page: a password for a token, which is good for half a day on all nodes that have the same password.

The token's key is made of the password, and of the secret if there is one: it signs nothing else, and no other key of
the gateway verifies it.
"""

import hmac
import time
from collections.abc import Callable
from math import ceil

import msgspec
from jwt import PyJWTError
from msgspec import Struct

from gateway.auth.keys import Keyring, configured, sign
from gateway.config.settings import AdminSettings, TokenSettings
from gateway.limits.addresses import network_of
from gateway.limits.buckets import Account, Accounts, Rules

LIFETIME = 12 * 3600
"""Seconds for which a token is good."""

AUDIENCE = "gateway admin page"

WRONG = "wrong password"
TRIES = Rules("admin", {WRONG: "5/minute"})
"""What an address may get wrong; an IPv6 network of 64 bits is one."""

ROOM = 1024
"""Addresses of which it is known what they have got wrong, twice that at most."""


class _Claims(Struct):
    aud: str
    exp: float


_decode = msgspec.json.Decoder(_Claims).decode


class Login:
    """Hands out tokens and verifies them; ``settings`` are asked for each time.

    ``clock`` is that of expiry, in Unix seconds, the same for all nodes; ``monotonic`` that of wrong passwords.
    """

    def __init__(
        self,
        settings: Callable[[], AdminSettings],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._wrong = Accounts(ROOM)
        self._read: AdminSettings | None = None
        self._keys: tuple[str, Keyring]

    @property
    def insecure(self) -> bool:
        """Whether nobody is asked."""
        return self._settings().insecure

    def wait(self, address: str) -> int:
        """Seconds until this address may try again; 0 if it may."""
        return max(0, ceil(self._account(address).wait(TRIES, WRONG, self._monotonic())))

    def open(self, password: str, address: str) -> str:
        """A token; empty for a wrong password, which is counted against its address."""
        right = self._settings().password.encode()
        if right and hmac.compare_digest(password.encode(errors="surrogatepass"), right):
            key, _ = self._ring()
            return sign(msgspec.json.encode(_Claims(AUDIENCE, int(self._clock()) + LIFETIME)), key)
        self._account(address).take(TRIES, WRONG, self._monotonic())
        return ""

    def admits(self, authorization: str) -> bool:
        """Whether this header's token is good: ``Bearer …``."""
        if self.insecure:
            return True
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not self._settings().password:
            return False
        try:
            claims = _decode(self._ring()[1].verify(token.strip()).payload)
        except (PyJWTError, msgspec.DecodeError, ValueError):
            return False
        return claims.aud == AUDIENCE and claims.exp > self._clock()

    def _account(self, address: str) -> Account:
        return self._wrong.of(network_of(address).name, TRIES.longest, self._monotonic())

    def _ring(self) -> tuple[str, Keyring]:
        settings = self._settings()
        if settings is not self._read:
            made_of = f"{settings.secret}\0{settings.password}".encode()
            key = hmac.digest(made_of, AUDIENCE.encode(), "sha256").hex()
            self._keys = key, Keyring(configured(TokenSettings(hmac_secret_key=key), "admin", self._clock))
            self._read = settings
        return self._keys
