"""Keys that issuers publish: fetched when a token needs one, kept, and fetched again when they may have changed."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable

import msgspec
from jwt import DecodeError, InvalidAlgorithmError, PyJWTError
from msgspec import Struct

from gateway.auth.claims import MAX_TOKEN_LENGTH
from gateway.auth.endpoint import KeyEndpoint, name_of
from gateway.auth.fetching import FetchFailed, fetch
from gateway.auth.jwks import KeySet, read_key_set
from gateway.auth.keys import KeyRefused, Verified, segment
from gateway.config.settings import TokenSettings
from gateway.core.tasks import Tasks
from gateway.errors import KeysUnavailable
from gateway.health import Condition
from gateway.recurring import Recurring

LASTS = 3600.0
"""Seconds for which a set is believed: a key that its issuer has taken away is good no longer than that."""

TRIES = 2

BURST, PAUSE = 5, 10.0
"""So many fetches may come of tokens at once, then one in so many seconds: anybody can write a ``kid``."""

log = logging.getLogger(__name__)


class _Header(Struct):
    kid: str = ""
    alg: str = ""


class RemoteKeys:
    """The keys of one section of the settings. ``verify`` waits for nothing: whoever may wait calls ``fetch`` before.

    Raises ``SettingsError`` for an endpoint that cannot be used. ``fetches`` counts them, by whether they succeeded.
    """

    def __init__(
        self, settings: TokenSettings, section: str, clock: Callable[[], float], fetches: Counter[bool]
    ) -> None:
        self._endpoint = KeyEndpoint(settings, section)
        self._section = section
        self._clock = clock
        self._fetches = fetches
        self._sets: dict[str, PublishedSet] = {}
        """By address, of which there are no more than the settings list."""

    def serves(self, other: "RemoteKeys") -> bool:
        """Whether the other's keys are the same."""
        return (self._section, self._endpoint.terms) == (other._section, other._endpoint.terms)

    def verify(self, token: str) -> Verified:
        """What a token with a good signature carries. Raises ``PyJWTError`` for any other."""
        header, published = self._find(token)
        keyring = published.keys.keyrings.get(header.kid)
        if keyring is None:
            said = f"kid is {header.kid!r:.60}" if header.kid else "it has no kid"
            raise KeyRefused(f"{said}, and there is no such key at {self._section}.jwks_public_endpoint", "key")
        try:
            return keyring.verify(token)
        except InvalidAlgorithmError as error:
            known = ", ".join(sorted(keyring.algorithms))
            raise KeyRefused(
                f"alg is {header.alg!r:.60}, and the key {header.kid!r:.60} is for {known}", "alg"
            ) from error

    def has(self, token: str) -> bool:
        """Whether the key that a token needs is here. It is nothing to wait for if the token is none."""
        try:
            header, published = self._find(token)
        except PyJWTError:
            return True
        return not header.kid or published.has(header.kid)

    async def fetch(self, token: str) -> None:
        """Wait until it is known whether there is the key that a token needs.

        Raises ``KeysUnavailable`` if that cannot be found out just now.
        """
        try:
            header, published = self._find(token)
        except PyJWTError:
            return
        await published.fetch(header.kid)

    def condition(self) -> Condition | None:
        """What is wrong with the endpoint, if anything is."""
        wrong = next((each for each in self._sets.values() if each.problem), None)
        return Condition("jwks_away", f"{self._section}: {wrong.name}: {wrong.problem}") if wrong is not None else None

    def renew(self) -> None:
        """Fetch them, and those that are here anew."""
        if not self._endpoint.varies:
            self._at(self._endpoint.template)
        for each in self._sets.values():
            each.renew()

    def close(self) -> None:
        for each in self._sets.values():
            each.close()

    def _find(self, token: str) -> tuple[_Header, "PublishedSet"]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise DecodeError("it is too long")
        try:
            header = msgspec.json.decode(segment(token.partition(".")[0].encode("ascii")), type=_Header)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise DecodeError("its header cannot be read") from error
        return header, self._at(self._endpoint.address(token))

    def _at(self, address: str) -> "PublishedSet":
        published = self._sets.get(address)
        if published is None:
            published = self._sets[address] = PublishedSet(address, self._section, self._clock, self._fetches)
        return published


class PublishedSet:
    """The keys at one address. Whoever lacks one waits for a fetch that begins after he has asked, as all do then."""

    def __init__(self, address: str, section: str, clock: Callable[[], float], fetches: Counter[bool]) -> None:
        self.name = name_of(address)
        self.keys = KeySet()
        self.problem = ""
        """Why the last fetch has failed; empty if it has not."""
        self._address = address
        self._section = section
        self._clock = clock
        self._fetches = fetches
        self._telling = Recurring(log, clock)
        self._tasks = Tasks()
        self._read_at = -math.inf
        self._begun = self._ended = 0
        self._landing: asyncio.Future[None] | None = None
        """Of the fetch under way, or about to be."""
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._left, self._counted_at = float(BURST), clock()
        """Fetches that may still come of tokens."""

    def has(self, kid: str) -> bool:
        """Whether the key is here and to be believed. While the issuer is away what is here goes on being good."""
        return kid in self.keys.keyrings and (bool(self.problem) or self._clock() - self._read_at < LASTS)

    async def fetch(self, kid: str) -> None:
        """As in `RemoteKeys`."""
        begun = self._begun
        while not self.has(kid) and self._ended <= begun:
            if self._landing is None and not self._may_fetch():
                break
            await asyncio.shield(self._take_off())
        if kid in self.keys.keyrings:
            return
        if self.problem:
            raise KeysUnavailable(f"{self.name}: {self.problem}")
        if self._ended <= begun:
            raise KeysUnavailable(f"{self.name} is not asked again so soon")

    def renew(self) -> None:
        self._read_at = -math.inf
        self._take_off()

    def close(self) -> None:
        """Fetch nothing any more. Who waits is asked to come again."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for task in self._tasks.running:
            task.cancel()
        if self._landing is not None:  # its task may not even have begun
            self._landing.set_result(None)
            self._landing = None

    def _may_fetch(self) -> bool:
        now = self._clock()
        self._left = min(BURST, self._left + max(0.0, now - self._counted_at) / PAUSE)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _take_off(self) -> asyncio.Future[None]:
        """Begin a fetch at the end of this tick, so that all who ask in it share it; or join the one under way."""
        if self._closed:
            raise KeysUnavailable(f"{self.name} is not asked any more")
        if self._landing is None:
            self._landing = asyncio.get_running_loop().create_future()
            self._tasks.spawn(self._fly(self._landing))
        return self._landing

    async def _fly(self, landing: asyncio.Future[None]) -> None:
        self._begun += 1
        if self._retry is not None:
            self._retry.cancel()
        problem = "the fetch was broken off"
        try:
            problem = await self._look()
        finally:
            self.problem, self._ended, self._landing = problem, self._begun, None
            if not landing.done():
                landing.set_result(None)
        self._fetches[not self.problem] += 1
        if self.problem:
            text = "%s: no keys from %s: %s; tokens whose key is known go on, others are asked to come again"
            self._telling.happened("away", text, self._section, self.name, self.problem, reason=self.problem)
            self._retry = asyncio.get_running_loop().call_later(PAUSE, self._take_off)
        else:
            self._telling.over("away", "%s: keys come from %s again", self._section, self.name)

    async def _look(self) -> str:
        """Take the keys that are published now. Answers why that cannot be, if it cannot."""
        problem = ""
        for _ in range(TRIES):
            try:
                keys = await asyncio.to_thread(read_key_set, await fetch(self._address))
            except (FetchFailed, ValueError) as error:
                problem = str(error)
            else:
                if keys.left_out != self.keys.left_out:
                    log.info("%s: of %s not used: %s", self._section, self.name, "; ".join(keys.left_out) or "none")
                self.keys, self._read_at = keys, self._clock()
                return ""
        return problem
