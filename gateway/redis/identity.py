"""Which history of data a server holds: another one after each promotion, restart and resynchronisation."""

from pathlib import Path
from typing import NamedTuple

from gateway.redis.connection import RedisConnection
from gateway.redis.resp import Argument, CommandRefused
from gateway.redis.script import Script

REPLICATION_ID = Path(__file__).parent / "lua" / "replication_id.lua"
"""To stand before scripts that ask the server themselves."""

_FLUSHES = Script(Path(__file__).parent / "lua" / "flushes.lua")
_USAGE = Script(Path(__file__).parent / "lua" / "usage.lua")
_IDENTIFY = Script(REPLICATION_ID, REPLICATION_ID.with_name("identify.lua"))


async def identify(connection: RedisConnection) -> None:
    """Have a new connection know its server's; empty where that is not told. Raises ``BrokerUnavailable``."""
    await _learn(connection, _IDENTIFY.by_text([], []))


async def identify_again(connection: RedisConnection) -> None:
    """The same for one that has been told: a server may change under an open connection."""
    try:
        await _learn(connection, _IDENTIFY.by_digest([], []))
    except CommandRefused as refused:
        if refused.redis_code != "NOSCRIPT":
            raise
        await identify(connection)


async def _learn(connection: RedisConnection, command: tuple[Argument, ...]) -> None:
    try:
        connection.identity = bytes(await connection.execute(*command, optional=True))
    except CommandRefused as refused:
        if refused.served_elsewhere or refused.redis_code == "NOSCRIPT":
            raise
        connection.identity = b""


class Usage(NamedTuple):
    """What a server holds; -1 is not told."""

    keys: int = -1
    """Of the database."""
    memory: int = -1
    """Bytes that the server uses."""
    max_memory: int = -1
    """Bytes that it may use; 0 is without limit."""


async def measure(connection: RedisConnection, db: int) -> Usage:
    """What the server holds. Raises ``BrokerUnavailable``."""
    try:
        return Usage(*await connection.execute(*_USAGE.by_text([], [db]), optional=True))
    except CommandRefused as refused:
        if refused.served_elsewhere:
            raise
        return Usage()


async def count_flushes(connection: RedisConnection) -> int:
    """How often the server has been emptied by command, -1 where that is not told. Raises ``BrokerUnavailable``."""
    try:
        return int(await connection.execute(*_FLUSHES.by_text([], []), optional=True))
    except CommandRefused as refused:
        if refused.served_elsewhere:
            raise
        return -1
