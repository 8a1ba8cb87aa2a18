"""Redis servers that fail over, and nodes that find the new one each in its own time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.redis import RedisBroker
from gateway.core.node import Node
from gateway.core.wheel import Wheel
from gateway.redis.server import Server
from tests.integration.cable import Cable
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.session.rig import Client, Rig
from tests.waiting import until, until_blocking

AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A master that does not wait for further replicas before it sends its data."""


class RedisNode(Rig):
    """A node on Redis, by a cable of its own, with a user who publishes and clients."""

    def __init__(self, shard: Server, cable: Cable) -> None:
        super().__init__({}, {})
        self.shard = shard
        self.cable = cable
        self.redis = RedisBroker(shard)
        self.wheel = Wheel()
        self.node = Node(
            self.settings,
            self.redis,
            self.presence,
            blocks=MemoryBlocks(self.clock),
            clock=self.clock,
            wheel=self.wheel,
        )

    async def move(self, server: RedisServer) -> None:
        """Lose the connections, and find another server."""
        lost = self.shard.reconnects
        self.cable.pull()
        await until(lambda: not self.shard.connected)
        self.cable.plug(server.port)
        await until(lambda: self.shard.connected and self.shard.reconnects >= lost + 2)

    async def returning(self, channel: str, offset: int, epoch: str) -> tuple[bool, list[object], str]:
        """Whether somebody recovers who stood there, what he gets, and the epoch that he is told."""
        client = await self.connected()
        result = await client.subscribe(channel, recover=True, offset=offset, epoch=epoch)
        await client.leave()
        data = [each["data"] for each in result.get("publications", [])]
        return result.get("recovered", False), data, result["epoch"]


@asynccontextmanager
async def node_at(server: RedisServer, *, probe_interval: float = 5.0) -> AsyncIterator[RedisNode]:
    async with Cable(server.port) as cable:
        url = f"redis://127.0.0.1:{cable.port}"
        async with started_shard(url, io_timeout=2.0, probe_interval=probe_interval) as shard:
            node = RedisNode(shard, cable)
            await node.node.start()
            try:
                yield node
            finally:
                await node.node.stop()


def replica_of(master: RedisServer) -> RedisServer:
    return RedisServer("--replicaof", f"127.0.0.1 {master.port}", *AT_ONCE)


def synced(master: RedisServer) -> None:
    """Wait until the replica has all that was written."""

    def attached() -> bool:
        with master.client() as client:
            return bool(client.info("replication")["connected_slaves"])

    def caught_up() -> bool:
        with master.client() as client:
            client.set("synced", 1)
            return bool(client.wait(1, 100))

    until_blocking(attached, what="a replica is attached")
    until_blocking(caught_up, what="the replica has caught up")


def promote(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


def follow(server: RedisServer, master: RedisServer) -> None:
    """Make it a replica, which takes over the other's data."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(master.port))
        until_blocking(lambda: client.info("replication")["master_link_status"] == "up", what="it follows")


async def received(client: Client, *values: object) -> None:
    """Wait until a subscriber has got these, and nothing else."""
    seen: list[object] = []

    def all_there() -> bool:
        seen.extend(client.data())
        return len(seen) >= len(values)

    await until(all_there, what=f"{values} are delivered")
    assert seen == list(values)


async def told_to_come_back(client: Client) -> None:
    """Wait until a subscriber is told that it has lost its position; it must get nothing before."""
    seen: list[dict[str, object]] = []

    def told() -> bool:
        seen.extend(client.take())
        return bool(seen)

    await until(told, what="told to come back")
    assert [push.get("unsubscribe") for push in seen] == [{"code": 2500, "reason": "insufficient state"}]
