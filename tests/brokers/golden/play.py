"""What a node does to write everything that nodes write, and what others are to read of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from msgspec.structs import replace

from gateway.blocks.redis import RedisBlocks
from gateway.brokers.base import HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.redis import RedisBroker
from gateway.core.cluster import (
    Answer,
    DisconnectUser,
    NodeInfo,
    Notice,
    RefreshUser,
    SendMessage,
    Shutdown,
    SubscribeUser,
    UnsubscribeUser,
    seal,
)
from gateway.core.survey import Question
from gateway.leases.base import Lease
from gateway.leases.redis import RedisLeases
from gateway.maps.base import FOR_EVER, MapOptions, MapWrite
from gateway.maps.redis import RedisMaps
from gateway.messages import ClientInfo, Exclusion, Payload, Position, Publication
from gateway.occupancy.redis import RedisOccupancy
from gateway.presence.redis import RedisPresence
from gateway.version import __version__
from tests.blocks.recorder import Recorder as BlockRecorder
from tests.brokers.golden import Key, Message, Recording
from tests.brokers.recorder import Recorder
from tests.occupancy.recorder import Recorder as OccupancyRecorder
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import until

NODE = "older"

KEPT = StreamOptions(history_size=10, history_ttl=3600.0)
NEWEST = StreamOptions(history_size=1, history_ttl=3600.0)
PLAIN = StreamOptions()

BOARD = MapOptions(mode="persistent", history_size=10, history_ttl=3600.0, history_meta_ttl=FOR_EVER)
ROOM = MapOptions(mode="recoverable", history_size=10, history_ttl=3600.0, history_meta_ttl=3600.0, key_ttl=10.0**9)
CURSORS = MapOptions(mode="ephemeral", key_ttl=10.0**9)
OVERDUE = MapOptions(mode="recoverable", history_size=10, history_ttl=3600.0, history_meta_ttl=3600.0, key_ttl=0.001)

ANN = ClientInfo("ann", "c1", conn_info=Payload(b'{"name": "Ann"}'), chan_info=Payload(b"[1]"))
BOB = ClientInfo("bób", "c2")
EVE = ClientInfo("", "c3", chan_info=Payload(b'"\xc3\xa9"'))

FULL = Publication(
    Payload(b'{"text":  "hi"}'),
    info=ANN,
    tags={"kind": "chat"},
    time=1_800_000_000_000,
    exclude=Exclusion(("c1",), ("ann",)),
)
SHORT = Publication(Payload(b"1"), time=1_800_000_000_001)
BINARY = Publication(Payload(b"\x00\xff:"), binary=True, time=1_800_000_000_002)

ENTRY = replace(FULL, key="a:\xfc", exclude=None)
LATER = replace(SHORT, key="a:\xfc", tags={"kind": "note"})
RAW = replace(BINARY, key="raw")

CONTROL: dict[str, Any] = {
    "info": NodeInfo("older-uid", "one", "0.1.0", 1, 2, 3, 4, 5),
    "shutdown": Shutdown("older-uid"),
    "subscribe": SubscribeUser(
        user="ann",
        client="c1",
        session="s1",
        channel="room",
        info=Payload(b'{"a": 1}'),
        data=Payload(b"{}"),
        override={"presence": False},
        expire_at=1_900_000_000,
        since=Position(4, "abcd"),
    ),
    "subscribe, short": SubscribeUser(user="ann", channel="room"),
    "unsubscribe": UnsubscribeUser(user="ann", channel="room", code=2000, reason="server unsubscribe"),
    "disconnect": DisconnectUser(
        user="ann", code=3503, reason="force disconnect", whitelist=["c1"], before=(1_800_000_000.5, "c2")
    ),
    "disconnect, short": DisconnectUser(client="c1", code=3503, reason="force disconnect"),
    "message": SendMessage(client="c1", data=Payload(b"{}")),
    "message, binary": SendMessage(client="c1", data=Payload(b"\xff"), binary=True),
    "refresh": RefreshUser(user="ann", expired=True, expire_at=1_900_000_000, info=Payload(b"{}")),
    "question": Question("q1", "older-uid", "channels", "chat:*", "chat:a", 100, "s1"),
    "answer": Answer("q1", "older-uid", {"chat:b": 2}, more=True),
    "notice": Notice("stream", "chat:a"),
    "commands": Question("q2", "older-uid", "emulation", '{"session":"s1","frame":"e30="}'),
    "commands, answer": Answer("q2", "older-uid", {}, body=b"taken"),
}


class Pieces(NamedTuple):
    """What a node has at Redis, and what it has been told."""

    broker: RedisBroker
    presence: RedisPresence
    occupancy: RedisOccupancy
    leases: RedisLeases
    blocks: RedisBlocks
    maps: RedisMaps
    heard: Recorder
    blocked: BlockRecorder
    occupied: OccupancyRecorder
    swept: list[tuple[str, ClientInfo]]


@asynccontextmanager
async def node(server: RedisServer, name: str, intervals: Any = None) -> AsyncIterator[Pieces]:
    """One that runs. At the end it leaves, if it can."""
    options = () if intervals is None else (intervals,)
    async with started_shard(server.url, probe_interval=3600) as shard:
        pieces = Pieces(
            RedisBroker(shard, lambda: 1_800_000_000.0),
            RedisPresence(shard, *options),
            RedisOccupancy(shard, *options),
            RedisLeases(shard),
            RedisBlocks(shard),
            RedisMaps(shard, lambda: 1_800_000_000.0),
            Recorder(),
            BlockRecorder(),
            OccupancyRecorder(),
            [],
        )
        await pieces.broker.start(name, pieces.heard)
        await pieces.presence.start(name, lambda channel, info: pieces.swept.append((channel, info)))
        await pieces.occupancy.start(name, pieces.occupied)
        await pieces.leases.start()
        await pieces.blocks.start(pieces.blocked)
        yield pieces
        await pieces.blocks.close()
        await pieces.leases.close()
        await pieces.occupancy.close()
        await pieces.presence.close()
        await pieces.broker.close()


def steps(node: Pieces) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """All that it does, each under a label; without one, what tells nobody."""
    publish = node.broker.publish
    once = PublishOptions(idempotency_key="once")
    yield "publication, kept", lambda: publish("kept", FULL, KEPT, PublishOptions())
    yield "publication, kept, once", lambda: publish("kept", SHORT, KEPT, once)
    yield "publication, kept, binary", lambda: publish("kept", BINARY, KEPT, PublishOptions())
    yield "publication, newest", lambda: publish("newest", SHORT, NEWEST, PublishOptions())
    yield "publication, version", lambda: publish("versions", SHORT, KEPT, PublishOptions(version=7, version_epoch="v"))
    yield "publication, delta", lambda: publish("deltas", FULL, KEPT, PublishOptions(delta=True, version=2**62))
    yield "publication, plain", lambda: publish("plain", FULL, PLAIN, PublishOptions())
    yield "publication, plain, once", lambda: publish("plain", SHORT, PLAIN, once)
    yield "", lambda: node.broker.history("unpublished", HistoryFilter(), KEPT)
    yield "join", lambda: node.broker.publish_join("room", ANN)
    yield "join, short", lambda: node.broker.publish_join("room", BOB)
    yield "leave", lambda: node.broker.publish_leave("room", ANN)
    for kind, body in CONTROL.items():
        data = seal("older-uid", body)
        yield f"control, {kind}", lambda data=data: node.broker.publish_control(data)  # type: ignore[misc]
    for info in (ANN, BOB, EVE):
        yield "", lambda info=info: node.presence.add("room", info)  # type: ignore[misc]
    yield "", lambda: node.occupancy.enter("room")
    yield "", lambda: node.leases.acquire("live", NODE)
    yield "lease, released", lambda: _release(node.leases, "given")
    yield "", lambda: _finish(node.leases, "done")
    yield "block", lambda: node.blocks.block("ann", 10**9)
    yield "block, for ever", lambda: node.blocks.block("bób", float("inf"))
    yield "block, another", lambda: node.blocks.block("eve", 10**9)
    yield "unblock", lambda: node.blocks.unblock("eve")
    yield from _map_steps(node.maps)


def _map_steps(maps: RedisMaps) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    once = MapWrite(idempotency_key="once")
    versioned = MapWrite(version=2**62, version_epoch="v")
    yield "map, set", lambda: maps.publish("board", ENTRY, BOARD)
    yield "map, set, delta", lambda: maps.publish("board", LATER, BOARD, MapWrite(delta=True))
    yield "map, set, version", lambda: maps.publish("board", RAW, BOARD, versioned)
    yield "map, set, once", lambda: maps.publish("board", replace(SHORT, key="gone"), BOARD, once)
    yield "map, removed", lambda: maps.remove("board", "gone", BOARD)
    yield "map, removed, tags", lambda: maps.remove("board", "a:\xfc", BOARD)
    yield "map, set, recoverable", lambda: maps.publish("board:1", ENTRY, ROOM)
    yield "map, set, ephemeral", lambda: maps.publish("cursors", ENTRY, CURSORS)
    yield "map, set, ephemeral, gone", lambda: maps.publish("cursors", replace(SHORT, key="gone"), CURSORS)
    yield "map, removed, ephemeral", lambda: maps.remove("cursors", "gone", CURSORS)
    yield "map, set, overdue", lambda: maps.publish("overdue", LATER, OVERDUE)
    yield "", lambda: maps.read_state("unpublished map", BOARD, 1)


async def _release(leases: RedisLeases, name: str) -> None:
    lease = await leases.acquire(name, NODE)
    assert isinstance(lease, Lease)
    await leases.release(lease)


async def _finish(leases: RedisLeases, name: str) -> None:
    lease = await leases.acquire(name, NODE)
    assert isinstance(lease, Lease)
    await leases.finish(lease)


async def record(server: RedisServer) -> Recording:
    """Have a node do all of it, on an empty server, and write down what it has written."""
    labels: list[str] = []
    with server.client() as client, client.pubsub(ignore_subscribe_messages=True) as everything:
        everything.psubscribe("*")
        messages: list[tuple[bytes, bytes]] = []

        def all_heard() -> bool:
            while message := everything.get_message():
                if not any(name in message["channel"] for name in (b":probe:", b":echo:")):
                    messages.append((message["channel"], message["data"]))
            return len(messages) >= len(labels)

        all_heard()
        async with node(server, NODE) as pieces:
            for label, do in steps(pieces):
                await do()
                labels += [label] if label else []
                await until(all_heard)
            keys, history = list(_dump(client)), replication_id(client)
    named = [Message(label, *message) for label, message in zip(labels, messages, strict=True)]
    return Recording(__version__, history, named, keys)


def replication_id(client: Any) -> bytes:
    """Names the history of data that a server holds."""
    return str(client.info("replication")["master_replid"])[:16].encode()


def _dump(client: Any) -> Iterator[Key]:
    """Every key, and how to make it again."""
    found = client.keys()
    for name in sorted(found):
        match client.type(name):
            case b"string":
                yield Key(name, (b"SET", name, client.get(name)))
            case b"hash":
                fields = client.hgetall(name)
                yield Key(name, (b"HSET", name, *(each for pair in sorted(fields.items()) for each in pair)))
            case b"set":
                members = client.smembers(name)
                yield Key(name, (b"SADD", name, *sorted(members)))
            case b"zset":
                scored = client.execute_command("ZRANGE", name, 0, -1, "WITHSCORES")
                pairs = zip(scored[::2], scored[1::2], strict=True)
                yield Key(name, (b"ZADD", name, *(each for user, score in pairs for each in (_score(score), user))))
            case b"stream":
                entries = client.execute_command("XRANGE", name, "-", "+")
                for entry, fields in entries:
                    yield Key(name, (b"XADD", name, entry, *(each for pair in fields.items() for each in pair)))
            case other:
                raise AssertionError(f"{name!r} is a {other!r}")


def _score(score: Any) -> bytes:
    return score if isinstance(score, bytes) else b"%d" % score if score < 1e300 else b"+inf"
