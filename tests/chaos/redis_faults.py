"""What happens to one Redis server."""

import re
import shutil
from typing import Any

from tests.chaos.ground import Ground
from tests.chaos.named import fault
from tests.chaos.pace import pace
from tests.chaos.size import MAD
from tests.redis_server import RedisServer

AWAY = 5.0
REFUSING = 8.0
"""Seconds for which Redis refuses what is asked of it."""
PASSWORD = "changed"


async def ask(ground: Ground, *words: Any, password: str = "") -> Any:
    def command() -> Any:
        with ground.redis.client() as client:
            client.connection_pool.connection_kwargs.update(socket_timeout=60.0, password=password or None)
            return client.execute_command(*words)

    return await ground.blocking(command)


@fault("Redis killed and restarted with its data", brief=True)
async def restart(ground: Ground) -> None:
    await ground.blocking(ground.redis.kill)
    await pace(AWAY)
    await ground.blocking(ground.redis.start)


@fault("Redis killed and restarted without its data", loses_data=True, brief=True)
async def restart_empty(ground: Ground) -> None:
    await ground.blocking(ground.redis.kill)
    await pace(AWAY)
    await ground.blocking(lambda: shutil.rmtree(ground.redis.directory / "appendonlydir"))
    await ground.blocking(ground.redis.start)


@fault("DEBUG SLEEP 10")
async def sleep(ground: Ground) -> None:
    await ask(ground, "DEBUG", "SLEEP", 10)


@fault("CLIENT KILL TYPE pubsub", brief=True)
async def kill_pubsub(ground: Ground) -> None:
    killed = await ask(ground, "CLIENT", "KILL", "TYPE", "pubsub")
    assert killed >= len(ground.nodes), f"{killed} connections were killed"


@fault("CLIENT PAUSE 8 s")
async def pause(ground: Ground) -> None:
    await ask(ground, "CLIENT", "PAUSE", 8000, "ALL")
    await pace(8)


@fault("output buffer overflow: a node stopped for 3 s", hangs=True)
async def overflow(ground: Ground) -> None:
    """The limit is low, and what is sent meanwhile is more than that and what the kernel keeps for the node."""
    node = await ground.busiest()
    before = await _subscribers(ground)
    await ask(ground, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 8mb 0 0")
    try:
        node.stop()
        await ground.blocking(lambda: _publish_much(ground))
        await pace(3)
        node.cont()
        after = await _subscribers(ground)
    finally:
        await ask(ground, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 256mb 64mb 30")
    assert before - after, "no subscriber was cut off"


async def _subscribers(ground: Ground) -> set[str]:
    """The ids of connections for pub/sub."""
    told = (await ask(ground, "CLIENT", "LIST", "TYPE", "pubsub")).decode()
    return set(re.findall(r"^id=(\d+)", told, re.MULTILINE))


def _publish_much(ground: Ground) -> None:
    """To a name that every node hears, 24 MiB of what none understands: a message of a later version."""
    with ground.redis.client() as client:
        (name,) = client.pubsub_channels(f"gateway:*:c:{MAD}")
        for _ in range(384):
            client.publish(name, b"?" * 65536)


@fault("FLUSHALL", loses_data=True, brief=True)
async def flush(ground: Ground) -> None:
    await ask(ground, "FLUSHALL")


@fault("SCRIPT FLUSH", loses_messages=False)
async def flush_scripts(ground: Ground) -> None:
    await ask(ground, "SCRIPT", "FLUSH")


@fault("out of memory (maxmemory) for 8 s")
async def out_of_memory(ground: Ground) -> None:
    await ask(ground, "CONFIG", "SET", "maxmemory", "1mb")
    await pace(REFUSING)
    await ask(ground, "CONFIG", "SET", "maxmemory", "0")


@fault("READONLY: replica of another server for 8 s, and back, without data", loses_data=True)
async def read_only(ground: Ground) -> None:
    other = RedisServer()
    await ground.blocking(other.start)
    try:
        await ask(ground, "REPLICAOF", "127.0.0.1", other.port)
        await pace(REFUSING)
        await ask(ground, "REPLICAOF", "NO", "ONE")
    finally:
        await ground.blocking(lambda: other.__exit__(None, None, None))


@fault("password changed for 8 s, and connections killed")
async def change_password(ground: Ground) -> None:
    await ask(ground, "CONFIG", "SET", "requirepass", PASSWORD)
    for kind in ("normal", "pubsub"):
        await ask(ground, "CLIENT", "KILL", "TYPE", kind, password=PASSWORD)  # our own is spared
    await pace(REFUSING)
    await ask(ground, "CONFIG", "SET", "requirepass", "", password=PASSWORD)
