"""What kind of server an address leads to, where it should be a single one."""

from contextlib import suppress
from pathlib import Path

from gateway.redis.connection import RedisConnection
from gateway.redis.endpoint import Endpoint
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script

_MODE = Script(Path(__file__).parent / "lua" / "mode.lua")


async def find_misfit(connection: RedisConnection, endpoint: Endpoint) -> str:
    """What is wrong with a server that is not a single one, and which address is right; empty for one that is.

    Raises ``BrokerUnavailable`` if the connection is lost.
    """
    try:
        mode = await connection.execute(*_MODE.by_text([], []), optional=True)
    except CommandRefused as refused:
        if "unknown command" not in refused.detail.lower():
            return ""
        with suppress(CommandRefused):
            masters = await connection.execute("SENTINEL", "MASTERS", optional=True)
            name = masters[0][1].decode() if masters else "mymaster"
            return (
                f"the server at {endpoint} is a Sentinel; write its address as "
                f"redis+sentinel://{endpoint}?sentinel_master_name={name}"
            )
        return ""
    if mode == b"cluster":
        return (
            f"the server at {endpoint} belongs to a Redis Cluster; write its address as redis+cluster://{endpoint}, "
            "best with others of its servers: ?addr=host:port&addr=host:port"
        )
    return ""
