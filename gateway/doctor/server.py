"""One Redis server: whether it will do, and what it is told to do when there is too much."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gateway.config.settings import RedisSettings
from gateway.doctor.finding import About, Finding
from gateway.doctor.rights import USEFUL, commands, try_out
from gateway.errors import BrokerUnavailable
from gateway.redis.connection import RedisConnection, connect
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import Keys
from gateway.redis.mode import find_misfit
from gateway.redis.refusals import REMEDIES, Refusals
from gateway.redis.resp import Argument, CommandRefused

OLDEST, OLDEST_OF_CLUSTER = (6, 2), (7, 0)

SKEW = 1.0
"""Seconds that two clocks may differ."""

SAMPLE = 1000
"""Keys that are looked at, of all there are."""

FULL = 0.8
"""Share of the memory from which on it is nearly all."""

ENOUGH_OUTPUT = 64 * 1024 * 1024
"""Bytes that a subscriber may be behind."""


class Unheeded(Refusals):
    """The log is told nothing of what the doctor is refused: that is what it wants to know."""

    def refused(self, error: CommandRefused, data: bytes, *, optional: bool = False) -> None:
        pass


class ServerExamination:
    """What is found out about one server. ``nodes`` are those that listen there, None if that is not to be had."""

    def __init__(self, settings: RedisSettings, endpoint: Endpoint, key: str, *, cluster: bool = False) -> None:
        self.nodes: int | None = None
        self._settings = settings
        self._endpoint = endpoint
        self._key = key
        self._cluster = cluster
        self._keys = Keys(settings.prefix, endpoint.db)
        self._about = About(f"redis {endpoint}")
        self._connection: RedisConnection

    async def run(self) -> list[Finding]:
        """All findings. A server that cannot be reached is one."""
        try:
            self._connection = await open_connection(self._settings, self._endpoint)
        except (OSError, CommandRefused) as error:
            detail = getattr(error, "detail", "") or str(error)
            remedy = REMEDIES.get(getattr(error, "redis_code", ""), f"start it, or correct {self._key}.address")
            return [self._about.problem(detail, remedy)]
        try:
            return [finding async for finding in self._examine()]
        except BrokerUnavailable:
            reason = self._connection.closed.result()
            return [self._about.problem(f"the connection was lost: {reason}", "look into the server's log")]
        finally:
            await self._connection.close("examined")

    async def _examine(self) -> Any:
        if not self._cluster and (misfit := await find_misfit(self._connection, self._endpoint)):
            yield self._about.problem(misfit, f"correct {self._key}.address")
            return
        info = _read_info(await self._ask("INFO"))
        replica = await self._role()
        for finding in (
            *self._version(info),
            *self._memory(info),
            *replica,
            *await self._output(),
            *await self._strangers(info),
            *await self._clock(),
            *await self._listeners(),
        ):
            yield finding
        if not replica:  # one refuses to write, whoever asks
            for finding in await self._rights():  # last: then the connection is no good for commands any more
                yield finding

    async def _ask(self, *command: Argument) -> Any:
        """None if that is refused, which is told with the rights."""
        with suppress(CommandRefused):
            return await self._connection.execute(*command)
        return None

    def _version(self, info: dict[str, str]) -> Iterator[Finding]:
        text = info.get("redis_version", "")
        if not text:
            yield self._about.note("who it is cannot be seen", "give its user +info")
            return
        name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
        oldest = OLDEST_OF_CLUSTER if self._cluster else OLDEST
        if tuple(int(part) for part in re.findall(r"\d+", text)[:2]) < oldest:
            wanted = ".".join(map(str, oldest))
            yield self._about.problem(f"{name} is too old", f"update it to {wanted} or later, or to Valkey")
        else:
            yield self._about.ok(name)

    def _memory(self, info: dict[str, str]) -> Iterator[Finding]:
        policy, limit = info.get("maxmemory_policy", ""), int(info.get("maxmemory", 0))
        if not policy:
            return
        if policy != "noeviction":
            yield self._about.warning(
                f"maxmemory-policy {policy} drops streams and members that are in use, without a word",
                "CONFIG SET maxmemory-policy noeviction, and in redis.conf",
            )
        if not limit:
            yield self._about.note(
                "it has no maxmemory, and grows until the machine has no more", "set maxmemory in redis.conf"
            )
            return
        used = int(info.get("used_memory", 0)) / limit
        if used >= FULL:
            yield self._about.warning(
                f"{used:.0%} of its memory is used",
                "give it more (maxmemory), or let channels keep less (history_size, history_ttl, history_meta_ttl)",
            )
        elif policy == "noeviction":
            yield self._about.ok(f"{used:.0%} of its memory is used, and nothing is dropped when it is full")

    async def _role(self) -> list[Finding]:
        role = await self._ask("ROLE")
        if role is None or role[0] == b"master":
            return []
        return [self._about.problem(f"it is a {role[0].decode()}", REMEDIES["READONLY"])]

    async def _output(self) -> list[Finding]:
        answer = await self._ask("CONFIG", "GET", "client-output-buffer-limit")
        if not answer:
            return [
                self._about.note(
                    "how far a node may be behind before it is cut off cannot be seen by this user",
                    "see that redis.conf has client-output-buffer-limit pubsub 256mb 64mb 30 or so",
                )
            ]
        words = answer[1].decode().split()
        begin = words.index("pubsub")
        hard, soft, seconds = (int(word) for word in words[begin + 1 : begin + 4])
        if 0 < hard < ENOUGH_OUTPUT or (0 < soft < ENOUGH_OUTPUT // 2 and seconds):
            return [
                self._about.warning(
                    f"a node that stalls is cut off when it is {_megabytes(hard)} behind, or {_megabytes(soft)} for "
                    f"{seconds} s",
                    "CONFIG SET client-output-buffer-limit 'pubsub 268435456 67108864 30', and in redis.conf",
                )
            ]
        return [self._about.ok(f"a node may be {_megabytes(hard)} behind")]

    async def _strangers(self, info: dict[str, str]) -> list[Finding]:
        """Keys that are not a gateway's: who has them may empty the database, or fill it."""
        answer = await self._ask("SCAN", 0, "COUNT", SAMPLE)
        if answer is None:
            held = info.get(f"db{self._endpoint.db}", "keys=?").partition(",")[0].removeprefix("keys=")
            return [self._about.note(f"whose its keys are ({held}) cannot be seen by this user")]
        prefix = self._keys.shared("").rstrip(b":")
        ours = (prefix + b":", prefix + b"@")
        strangers = sorted({_family(key) for key in answer[1] if not key.startswith(ours)})
        if not strangers:
            return [self._about.ok("nobody else keeps keys in the database, as far as was looked")]
        return [
            self._about.warning(
                f"others keep keys in the database: {', '.join(strangers[:5])}{', …' if len(strangers) > 5 else ''}",
                f"give the gateway a server of its own, so that nobody empties or fills it; {self._key}.prefix keeps "
                "names apart, and nothing else",
            )
        ]

    async def _clock(self) -> list[Finding]:
        before = time.time()
        answer = await self._ask("TIME")
        if answer is None:
            return []
        here = (before + time.time()) / 2
        ahead = int(answer[0]) + int(answer[1]) / 1e6 - here
        if abs(ahead) <= SKEW:
            return [self._about.ok("its clock and this one agree")]
        where = "ahead of" if ahead > 0 else "behind"
        return [
            self._about.warning(
                f"its clock is {abs(ahead):.1f} s {where} this one",
                "run an NTP client on both machines (chronyc tracking tells which of them is wrong)",
            )
        ]

    async def _listeners(self) -> list[Finding]:
        word = "SHARDNUMSUB" if self._cluster else "NUMSUB"
        answer = await self._ask("PUBSUB", word, self._keys.shared("control"))
        self.nodes = None if answer is None else int(answer[1])
        return []

    async def _rights(self) -> list[Finding]:
        execute = self._connection.execute
        useful, _ = await try_out(execute, USEFUL)
        lacking, others = await try_out(execute, commands(self._keys, sharded=self._cluster))
        user = self._endpoint.username or "default"
        found = [
            self._about.problem(f"it refuses: {refused.detail}", REMEDIES[refused.redis_code])
            for refused in others
            if refused.redis_code in REMEDIES and refused.redis_code != "MOVED"
        ]
        if lacking:
            found.append(self._about.problem(f"the user {user} lacks rights", self._granting(user, lacking)))
        if useful:
            text = f"the user {user} lacks rights without which a failover is noticed late"
            found.append(self._about.warning(text, self._granting(user, useful)))
        return found or [self._about.ok(f"the user {user} has all rights")]

    def _granting(self, user: str, rights: list[str]) -> str:
        pattern = self._keys.shared("*").decode()
        return f"ACL SETUSER {user} {' '.join(each + pattern if each in '~&' else each for each in rights)}"


async def open_connection(settings: RedisSettings, endpoint: Endpoint) -> RedisConnection:
    """Raises ``OSError``, or ``CommandRefused``."""

    def make() -> RedisConnection:
        return RedisConnection(settings.io_timeout, Unheeded(lambda: str(endpoint)))

    return await connect(endpoint, make, f"{settings.prefix}-doctor", settings.connect_timeout)


def _read_info(answer: bytes | None) -> dict[str, str]:
    lines = (answer or b"").decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _family(key: bytes) -> str:
    """What a key's name begins with: the rest may be somebody's business."""
    return key.decode(errors="replace").partition(":")[0][:30]


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.0f} MB" if size else "any number of MB"
