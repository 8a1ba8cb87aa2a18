"""What a gateway's user of Redis must be allowed to do, tried out: each command once, on keys that nobody has.

Trying says more than ACL DRYRUN, which the user itself would need a right for.
"""

import re
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any

from gateway.redis.keys import Keys
from gateway.redis.resp import Argument, CommandRefused

Execute = Callable[..., Awaitable[Any]]

_NO_SCRIPT = "0" * 40


def commands(keys: Keys, *, sharded: bool) -> dict[str, tuple[Argument, ...]]:
    """By right, a command that needs it and changes nothing that stays. Subscribing comes last: it ends commands."""
    name = f"doctor{token_hex(4)}"
    text, table, members, log, ranks = (keys.of(kind, name) for kind in (b"dt", b"dh", b"ds", b"dx", b"dz"))
    channel = keys.of(b"d", name)
    found: dict[str, tuple[Argument, ...]] = {
        "ping": ("PING",),
        "eval": ("EVAL", "return 1", 1, text),
        "evalsha": ("EVALSHA", _NO_SCRIPT, 1, text),
        "script|load": ("SCRIPT", "LOAD", "return 1"),
        "get": ("GET", text),
        "set": ("SET", text, "1", "PX", 1000),
        "exists": ("EXISTS", text),
        "persist": ("PERSIST", text),
        "pexpire": ("PEXPIRE", text, 1000),
        "pttl": ("PTTL", text),
        "pexpireat": ("PEXPIREAT", text, 1),
        "del": ("DEL", text),
        "time": ("TIME",),
        "hget": ("HGET", table, "f"),
        "hmget": ("HMGET", table, "f"),
        "hset": ("HSET", table, "f", "1"),
        "hincrby": ("HINCRBY", table, "f", 1),
        "hlen": ("HLEN", table),
        "hrandfield": ("HRANDFIELD", table),
        "hscan": ("HSCAN", table, 0),
        "hdel": ("HDEL", table, "f"),
        "sadd": ("SADD", members, "m"),
        "scard": ("SCARD", members),
        "smembers": ("SMEMBERS", members),
        "srandmember": ("SRANDMEMBER", members),
        "srem": ("SREM", members, "m"),
        "xadd": ("XADD", log, "NOMKSTREAM", "*", "f", "v"),
        "xrange": ("XRANGE", log, "-", "+"),
        "xrevrange": ("XREVRANGE", log, "+", "-"),
        "zadd": ("ZADD", ranks, "XX", 1, "m"),
        "zrem": ("ZREM", ranks, "m"),
        "zremrangebyscore": ("ZREMRANGEBYSCORE", ranks, 0, 0),
        "zcard": ("ZCARD", ranks),
        "zscore": ("ZSCORE", ranks, "m"),
        "zrange": ("ZRANGE", ranks, 0, -1),
        "zscan": ("ZSCAN", ranks, 0),
        "publish": ("PUBLISH", channel, ""),
        "pubsub|numsub": ("PUBSUB", "NUMSUB", channel),
    }
    if sharded:
        found |= {
            "spublish": ("SPUBLISH", channel, ""),
            "pubsub|shardnumsub": ("PUBSUB", "SHARDNUMSUB", channel),
            "cluster|info": ("CLUSTER", "INFO"),
            "cluster|slots": ("CLUSTER", "SLOTS"),
            "asking": ("ASKING",),
            "command|info": ("COMMAND", "INFO", "GET"),
            "sunsubscribe": ("SUNSUBSCRIBE", channel),
            "ssubscribe": ("SSUBSCRIBE", channel),
        }
    return found | {"unsubscribe": ("UNSUBSCRIBE", channel), "subscribe": ("SUBSCRIBE", channel)}


USEFUL: dict[str, tuple[Argument, ...]] = {
    "info": ("INFO", "server"),
    "role": ("ROLE",),
    "client|setname": ("CLIENT", "SETNAME", "gateway-doctor"),
    "client|info": ("CLIENT", "INFO"),
    "client|kill": ("CLIENT", "KILL", "ID", 2**62),
}
"""By right, what is done without."""


async def try_out(execute: Execute, wanted: dict[str, tuple[Argument, ...]]) -> tuple[list[str], list[CommandRefused]]:
    """Rights that are missing, as ACL SETUSER takes them; ``~`` and ``&`` stand for keys and channels.

    And what is refused for another reason, once of each kind.
    """
    lacking: dict[str, None] = {}
    others: dict[str, CommandRefused] = {}
    for right, command in wanted.items():
        try:
            await execute(*command)
        except CommandRefused as refused:
            if refused.redis_code == "NOPERM":
                lacking[_lack(right, refused.detail)] = None
            else:
                others.setdefault(refused.redis_code, refused)
    return list(lacking), list(others.values())


def _lack(right: str, detail: str) -> str:
    if "to run the" in detail:
        return f"+{right}"
    return "~" if re.search(r"\bkeys?\b", detail) else "&"
