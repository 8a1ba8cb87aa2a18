"""All Redises that the settings name, in each of their forms."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.config.settings import RedisSettings
from gateway.doctor.finding import About, Finding
from gateway.doctor.server import ServerExamination, open_connection
from gateway.errors import BrokerUnavailable
from gateway.redis.address import ClusterSeeds, Place, SentinelGroup, read_addresses
from gateway.redis.endpoint import Endpoint
from gateway.redis.resp import CommandRefused
from gateway.redis.topology import Topology
from gateway.redis.views import Views


class RedisExamination:
    """``nodes`` are those that listen, as far as all servers tell."""

    def __init__(self, settings: RedisSettings, key: str = "engine.redis") -> None:
        self.nodes: int | None = None
        self._settings = settings
        self._key = key

    async def run(self) -> list[Finding]:
        """All findings, server by server. Raises ``SettingsError`` for an address that means nothing."""
        found: list[Finding] = []
        counts: list[int | None] = []
        for place in read_addresses(self._settings, self._key):
            some, count = await self._place(place)
            found += some
            counts.append(count)
        known = [count for count in counts if count is not None]
        self.nodes = min(known) if known else None
        return found

    async def _place(self, place: Place) -> tuple[list[Finding], int | None]:
        """What is found at one address, and how many nodes listen there."""
        match place:
            case SentinelGroup():
                found, master = await self._master(place)
                return await self._servers([master] if master else [], found)
            case ClusterSeeds(seeds):
                found, primaries = await self._primaries(seeds)
                return await self._servers(primaries, found, cluster=True)
        return await self._servers([place], [])

    async def _servers(
        self, endpoints: Sequence[Endpoint], found: list[Finding], *, cluster: bool = False
    ) -> tuple[list[Finding], int | None]:
        each = [ServerExamination(self._settings, endpoint, self._key, cluster=cluster) for endpoint in endpoints]
        for findings in await asyncio.gather(*(one.run() for one in each)):
            found += findings
        counts = [one.nodes for one in each if one.nodes is not None]
        return found, sum(counts) if counts else None

    async def _master(self, group: SentinelGroup) -> tuple[list[Finding], Endpoint | None]:
        """Whom the sentinels name."""
        about = About(f"sentinels of {group.master_name}")
        answers = await asyncio.gather(*(self._ask(each, group.master_name) for each in group.sentinels))
        found = [
            about.warning(f"{sentinel} does not answer: {answer}", "start it, or take it out of the address")
            for sentinel, answer in zip(group.sentinels, answers, strict=True)
            if isinstance(answer, str)
        ]
        named = Counter(answer for answer in answers if isinstance(answer, tuple))
        if not named:
            unknown = any(answer is None for answer in answers)
            text = "none of them knows such a master" if unknown else "none of them answers"
            remedy = f"correct sentinel_master_name of {self._key}" if unknown else "start them, or correct the address"
            return [*found, about.problem(text, remedy)], None
        [((host, port), votes)] = named.most_common(1)
        if len(named) > 1:
            others = ", ".join(f"{host}:{port}" for host, port in named if votes)
            found.append(about.problem(f"they name several masters: {others}", "look into the sentinels' logs"))
        if len(group.sentinels) < 3:
            found.append(
                about.note(
                    f"the address names {len(group.sentinels)} of them",
                    "name three at least, on machines of their own: addr=host:port for each",
                )
            )
        return found, replace(group.master, host=host, port=port)

    async def _ask(self, sentinel: Endpoint, name: str) -> tuple[str, int] | str | None:
        """The master; None if it knows no such name, or why it does not answer."""
        try:
            connection = await open_connection(self._settings, sentinel)
        except (OSError, CommandRefused) as error:
            return getattr(error, "detail", "") or str(error)
        try:
            answer = await connection.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        except (BrokerUnavailable, CommandRefused) as error:
            return getattr(error, "detail", "") or str(error)
        finally:
            await connection.close("asked")
        return (answer[0].decode(), int(answer[1])) if answer else None

    async def _primaries(self, seeds: Sequence[Endpoint]) -> tuple[list[Finding], list[Endpoint]]:
        """Who owns slots, as the first seed that answers says."""
        about = About("redis cluster")
        views = Views(self._settings, seeds, Counter())
        found: list[Finding] = []
        for seed in seeds:
            try:
                topology = await views.ask(seed)
            except (OSError, BrokerUnavailable, CommandRefused) as error:
                why = views.unfit or getattr(error, "detail", "") or str(error)
                found.append(
                    about.warning(f"{seed} does not tell of the cluster: {why}", "correct the address, or start it")
                )
                continue
            found += self._slots(about, topology)
            return found, [replace(seed, host=host, port=port) for host, port in topology.primaries]
        return [*found, about.problem("nobody tells of it", f"correct {self._key}.address")], []

    def _slots(self, about: About, topology: Topology) -> list[Finding]:
        unserved = topology.owners.count(None)
        if unserved:
            return [
                about.problem(
                    f"nobody serves {unserved} of its slots", "bring back its primaries (redis-cli --cluster check)"
                )
            ]
        return [about.ok(f"all slots are served, by {len(topology.primaries)} primaries")]
