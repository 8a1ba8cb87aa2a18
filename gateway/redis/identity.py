"""Which history of data a server holds: another one after each promotion, restart and resynchronisation."""

from pathlib import Path

from gateway.redis.connection import RedisConnection
from gateway.redis.resp import CommandRefused
from gateway.redis.script import Script

REPLICATION_ID = Path(__file__).parent / "lua" / "replication_id.lua"
"""To stand before scripts that ask the server themselves."""

_IDENTIFY = Script(REPLICATION_ID, REPLICATION_ID.with_name("identify.lua"))


async def identify(connection: RedisConnection) -> None:
    """Have the connection know its server's; empty where that is not told. Raises ``BrokerUnavailable``."""
    try:
        connection.identity = bytes(await connection.execute(*_IDENTIFY.by_text([], []), optional=True))
    except CommandRefused as refused:
        if refused.served_elsewhere:
            raise
        connection.identity = b""
