"""Redis that is several servers, for tests: Sentinel and Cluster, of real processes on free ports of this machine.

Both are context managers, and block: from an event loop, call their methods in a thread. What they promise when they
have been entered: every server knows every other, and the whole would survive the loss of a primary.
"""

import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.waiting import until_blocking

FORMING = 60.0
"""Seconds that servers have to find each other, on a busy machine."""
DOWN_AFTER = 2.0
"""Seconds of silence after which a server counts as lost."""
ATTEMPT = 6.0
"""Seconds after which a failover that was promised and has not come is asked for again: Redis gives up after five."""
SLOTS = 16384
_QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
"""A replica is there at once, not after five seconds."""


class Member(RedisServer):
    """A server among others, perhaps with a password."""

    def __init__(self, *args: str, password: str = "") -> None:
        secrets = ("--requirepass", password, "--masterauth", password) if password else ()
        super().__init__(*args, *secrets)
        self.password = password

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self._process is not None

    def client(self) -> Redis:
        retry = Retry(NoBackoff(), 0)
        return Redis(host="127.0.0.1", port=self.port, password=self.password or None, protocol=2, retry=retry)

    def command(self, *words: Any) -> Any:
        """Ask for one thing, on a connection of its own; two seconds at most."""
        with self.client() as client:
            client.connection_pool.connection_kwargs["socket_timeout"] = 2.0
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO; empty if the server does not answer."""
        with suppress(RedisError, OSError):
            return dict(self.command("INFO", section))
        return {}


class SentinelServer(Member):
    """One sentinel. It remembers what it has learned in the file that it was started with."""

    def __init__(self, settings: Iterable[str], password: str = "") -> None:
        super().__init__(password=password)
        self._file = self.directory / "sentinel.conf"
        secrets = (f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"') if password else ()
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", *secrets, *settings]
        self._file.write_text("\n".join([*lines, ""]))

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is missing; install it, for example: apt-get install redis-server")
        self._process = subprocess.Popen([program, str(self._file), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            until_blocking(self._answers, what="sentinel answers")
        except BaseException:
            self.kill()
            raise


class SentinelTopology:
    """A master, its replicas, and the sentinels that watch them. ``args`` go to each of the data servers."""

    master_name = "mymaster"

    def __init__(
        self,
        *args: str,
        replicas: int = 2,
        sentinels: int = 3,
        down_after: float = DOWN_AFTER,
        password: str = "",
        sentinel_password: str = "",
    ) -> None:
        first = Member(*_QUICK, *args, password=password)
        follow = ("--replicaof", "127.0.0.1", str(first.port))
        self.servers = [first, *(Member(*_QUICK, *follow, *args, password=password) for _ in range(replicas))]
        name = self.master_name
        settings = [
            f"sentinel monitor {name} 127.0.0.1 {first.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {name} {down_after * 1000:.0f}",
            f"sentinel failover-timeout {name} {down_after * 5000:.0f}",
            f"sentinel parallel-syncs {name} {max(replicas, 1)}",
            *([f'sentinel auth-pass {name} "{password}"'] if password else []),
        ]
        self.sentinels = [SentinelServer(settings, sentinel_password) for _ in range(sentinels)]
        self._password = password
        self._sentinel_password = sentinel_password
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Its address as the gateway's settings take it."""
        user = f":{self._password}@" if self._password else ""
        first, *others = (each.address for each in self.sentinels)
        words = [f"sentinel_master_name={self.master_name}", *(f"addr={each}" for each in others)]
        if self._sentinel_password:
            words.append(f"sentinel_password={self._sentinel_password}")
        return f"redis+sentinel://{user}{first}?{'&'.join(words)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for each in [*self.servers, *self.sentinels]:
                stack.enter_context(each)
            until_blocking(self.complete, FORMING, "sentinels know each other and all replicas")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def master(self) -> Member:
        """Whom most of the sentinels that live name as the master."""
        named = [address for each in self.sentinels if each.alive and (address := self._named(each))]
        if not named:
            raise AssertionError("no sentinel answers")
        return self._at(max(named, key=named.count))

    def replicas(self) -> list[Member]:
        master = self.master()
        return [each for each in self.servers if each is not master]

    def client(self) -> Redis:
        """A plain blocking client of the master."""
        return self.master().client()

    def failover(self) -> Member:
        """Have another server made master, with none lost; returns the new one when all agree on it."""
        before = self.master()
        self._asks(lambda sentinel: sentinel.command("SENTINEL", "FAILOVER", self.master_name))
        return self.wait_for_another(before)

    def kill_primary(self) -> Member:
        """Kill the master, and wait for its successor; returns the dead: ``start`` brings it back as a replica."""
        before = self.master()
        before.kill()
        self.wait_for_another(before)
        return before

    def wait_for_another(self, before: Member) -> Member:
        """Wait until all sentinels name another master than ``before``, and it says itself that it is one."""

        def agreed() -> Member | None:
            names = {self._named(each) for each in self.sentinels if each.alive}
            if len(names) != 1 or (name := names.pop()) is None or name == before.address:
                return None
            found = self._at(name)
            return found if found.info("replication").get("role") == "master" else None

        return until_blocking(agreed, FORMING, "another master")

    def complete(self) -> bool:
        """Whether each sentinel knows all others, and all replicas, and these follow the master."""
        for each in self.sentinels:
            with suppress(RedisError, OSError):
                about = _pairs(each.command("SENTINEL", "MASTER", self.master_name))
                counts = about["num-slaves"], about["num-other-sentinels"]
                if counts == (str(len(self.servers) - 1), str(len(self.sentinels) - 1)) and about["flags"] == "master":
                    continue
            return False
        links = [each.info("replication") for each in self.replicas()]
        return all(link.get("master_link_status") == "up" for link in links)

    def _named(self, sentinel: Member) -> str | None:
        with suppress(RedisError, OSError):
            if found := sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master_name):
                host, port = (each.decode() if isinstance(each, bytes) else str(each) for each in found)
                return f"{host}:{port}"
        return None

    def _asks(self, question: Any) -> None:
        """Ask the sentinels one after the other, until one does as it is told."""

        def told() -> bool:
            for each in self.sentinels:
                with suppress(RedisError, OSError):
                    question(each)
                    return True
            return False

        until_blocking(told, FORMING, "a sentinel obeys")

    def _at(self, address: str) -> Member:
        return next(each for each in self.servers if each.address == address)


class ClusterTopology:
    """Primaries with their replicas and all slots. ``args`` go to each server; ports of the bus are free ones, too."""

    def __init__(
        self, *args: str, primaries: int = 3, replicas: int = 1, node_timeout: float = DOWN_AFTER, password: str = ""
    ) -> None:
        """``replicas`` is for each primary."""
        self._primaries = primaries
        self._password = password
        self._bus: dict[int, int] = {}
        self.servers: list[Member] = []
        for _ in range(primaries * (1 + replicas)):
            bus = free_port()
            timeout = ("--cluster-node-timeout", f"{node_timeout * 1000:.0f}", "--cluster-port", str(bus))
            server = Member("--cluster-enabled", "yes", *timeout, *_QUICK, *args, password=password)
            self.servers.append(server)
            self._bus[server.port] = bus
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Its address as the gateway's settings take it."""
        user = f":{self._password}@" if self._password else ""
        first, *others = (each.address for each in self.servers[: self._primaries])
        return f"redis+cluster://{user}{first}?{'&'.join(f'addr={each}' for each in others)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for each in self.servers:
                stack.enter_context(each)
            self._form()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # — how it stands —

    def primaries(self) -> list[Member]:
        """Those that own slots, in the order of their first slot."""
        return [self._at(port) for _, _, port, *_ in sorted(self._slots())]

    def master(self, slot: int = 0) -> Member:
        """Who owns the slot."""
        for start, end, port, *_ in self._slots():
            if start <= slot <= end:
                return self._at(port)
        raise AssertionError(f"nobody owns slot {slot}")

    def replicas(self, slot: int = 0) -> list[Member]:
        """Who follows the owner of the slot."""
        for start, end, _, *others in self._slots():
            if start <= slot <= end:
                return [self._at(port) for port in others]
        raise AssertionError(f"nobody owns slot {slot}")

    def slot(self, key: str) -> int:
        return int(self._anyone().command("CLUSTER", "KEYSLOT", key))

    def slots_of(self, server: Member) -> list[int]:
        ranges = [(start, end) for start, end, port, *_ in self._slots() if port == server.port]
        return [slot for start, end in ranges for slot in range(start, end + 1)]

    def client(self) -> RedisCluster:
        """A blocking client of the whole, which follows redirections."""
        server = self._anyone()
        return RedisCluster(host="127.0.0.1", port=server.port, password=server.password or None)

    def ok(self) -> bool:
        """Whether every server that lives sees all slots served, and agrees on who owns them."""
        live = [each for each in self.servers if each.alive]
        try:
            views = [_cluster_info(each) for each in live]
            owners = {tuple(sorted(self._slots(each))) for each in live}
        except (RedisError, OSError):
            return False
        good = all(view["cluster_state"] == "ok" and view["cluster_slots_ok"] == str(SLOTS) for view in views)
        return good and len({tuple(row[:3] for row in view) for view in owners}) == 1

    def wait_ok(self) -> None:
        until_blocking(self.ok, FORMING, "cluster is ok, as all its servers see it")

    # — what is done to it —

    def failover(self, slot: int = 0) -> Member:
        """Have a replica take over in order, with nothing lost; returns the new owner of the slot."""
        before = self.master(slot)
        asked = 0.0

        def taken_over() -> Member | None:
            nonlocal asked
            if time.monotonic() > asked + ATTEMPT:
                asked = time.monotonic()
                self.replicas(slot)[0].command("CLUSTER", "FAILOVER")
            return self._another(before, slot)

        return until_blocking(taken_over, FORMING, f"another server owns slot {slot}")

    def kill_primary(self, slot: int = 0) -> Member:
        """Kill the owner of a slot, and wait for the promotion; returns the dead: ``start`` brings it back."""
        before = self.master(slot)
        before.kill()
        self.wait_for_another(before, slot)
        return before

    def wait_for_another(self, before: Member, slot: int = 0) -> Member:
        return until_blocking(lambda: self._another(before, slot), FORMING, f"another server owns slot {slot}")

    def _another(self, before: Member, slot: int) -> Member | None:
        with suppress(RedisError, OSError, AssertionError):
            found = self.master(slot)
            return found if found is not before and self.ok() else None
        return None

    def migrate_slots(self, slots: Iterable[int], target: Member | None = None) -> None:
        """Move slots with their keys, under load; by default each to the primary after its owner."""
        for slot in slots:
            with self.migrating(slot, target):
                pass

    @contextmanager
    def migrating(self, slot: int, target: Member | None = None) -> Iterator[tuple[Member, Member]]:
        """A slot on its way, its keys still with the owner, which answers ASK for those it has not; done at the end."""
        source = self.master(slot)
        target = target or self._after(source)
        new, old = self._id(target), self._id(source)
        if target is not source:
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", old)
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", new)
        yield source, target
        if target is not source:
            self._move_keys(source, target, slot)
            for each in [target, source, *(other for other in self.primaries() if other not in (source, target))]:
                each.command("CLUSTER", "SETSLOT", slot, "NODE", new)

    def _move_keys(self, source: Member, target: Member, slot: int) -> None:
        secret = ("AUTH", self._password) if self._password else ()
        with source.client() as client:
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *secret, "KEYS", *keys)

    # — how it is formed —

    def _form(self) -> None:
        owners, followers = self.servers[: self._primaries], self.servers[self._primaries :]
        for number, each in enumerate(owners):
            first, after = (SLOTS * edge // self._primaries for edge in (number, number + 1))
            each.command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for number, each in enumerate(self.servers, 1):
            each.command("CLUSTER", "SET-CONFIG-EPOCH", number)
            for other in self.servers[: number - 1]:  # gossip alone would take a second or two
                # not the port alone: the bus is not ten thousand above
                each.command("CLUSTER", "MEET", "127.0.0.1", other.port, self._bus[other.port])
        until_blocking(self._all_known, FORMING, "all servers of the cluster know each other")
        for number, each in enumerate(followers):
            each.command("CLUSTER", "REPLICATE", self._id(owners[number % self._primaries]))
        until_blocking(self._all_followed, FORMING, "replicas follow their primaries")
        self.wait_ok()

    def _all_known(self) -> bool:
        return all(_cluster_info(each)["cluster_known_nodes"] == str(len(self.servers)) for each in self.servers)

    def _all_followed(self) -> bool:
        links = [each.info("replication") for each in self.servers[self._primaries :]]
        seen = [sum(len(row) - 3 for row in self._slots(each)) for each in self.servers]
        return all(link.get("master_link_status") == "up" for link in links) and set(seen) == {len(links)}

    def _slots(self, asked: Member | None = None) -> list[tuple[int, ...]]:
        """Rows of first slot, last slot, the owner's port, the ports of its replicas."""
        rows = (asked or self._anyone()).command("CLUSTER", "SLOTS")
        if isinstance(rows, dict):  # redis-py's own reading of the answer
            return [
                (first, last, row["primary"][1], *(each[1] for each in row["replicas"]))
                for (first, last), row in rows.items()
            ]
        return [(first, last, *(int(each[1]) for each in nodes)) for first, last, *nodes in rows]

    def _anyone(self) -> Member:
        """A server that lives and thinks that the cluster is well, or else any that lives."""
        live = [each for each in self.servers if each.alive]
        for each in live:
            with suppress(RedisError, OSError):
                if _cluster_info(each)["cluster_state"] == "ok":
                    return each
        return live[0]

    def _after(self, server: Member) -> Member:
        all_of_them = list(dict.fromkeys(self.primaries()))
        return all_of_them[(all_of_them.index(server) + 1) % len(all_of_them)]

    def _id(self, server: Member) -> str:
        return _text(server.command("CLUSTER", "MYID"))

    def _at(self, port: int) -> Member:
        return next(each for each in self.servers if each.port == port)


def _cluster_info(server: Member) -> dict[str, str]:
    answer = server.command("CLUSTER", "INFO")
    if isinstance(answer, dict):
        return {str(key): str(value) for key, value in answer.items()}
    return dict(line.split(":", 1) for line in _text(answer).split())


def _pairs(answer: Any) -> dict[str, str]:
    if isinstance(answer, dict):
        return {_text(key): _text(value) for key, value in answer.items()}
    words = [_text(each) for each in answer]
    return dict(zip(words[::2], words[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
