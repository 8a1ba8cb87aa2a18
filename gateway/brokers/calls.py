"""What is asked of Redis to publish: the same by a node and by a publisher that is none."""

from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from gateway.brokers import envelope
from gateway.brokers.base import PublishOptions, StreamOptions, new_epoch, outgoing
from gateway.messages import Publication, Receipt, pack
from gateway.redis.identity import REPLICATION_ID
from gateway.redis.keys import Keys
from gateway.redis.resp import Argument, milliseconds
from gateway.redis.script import Script

LUA = Path(__file__).parent / "lua"
LINEAGE = (REPLICATION_ID, LUA / "lineage.lua")
"""To stand before scripts that begin epochs."""

PUBLISH = Script(*LINEAGE, LUA / "publish.lua", identified=True)
PUBLISH_ONCE = Script(LUA / "publish_once.lua")


class Call(Struct):
    """A script with its keys and arguments; without script, the name and the message of a plain PUBLISH."""

    script: Script | None
    keys: list[Argument]
    args: list[Argument]


def publish_call(
    keys: Keys, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions, now: float
) -> Call:
    """``now`` (Unix seconds) is when it was published, unless the publication says so itself."""
    # Position stays out of the stored bytes: Redis decides it.
    data = pack(outgoing(publication, stream, options, now))
    meta, kept, name = keys.published(channel)
    names: list[Argument]
    if not stream.keeps_history or options.skip_history:
        message = envelope.WITHOUT_OFFSET + data
        if not options.idempotency_key:
            return Call(None, [name], [message])
        names = [keys.result(channel, options.idempotency_key)]
        return Call(PUBLISH_ONCE, names, [message, milliseconds(options.idempotency_ttl), name])
    names, args = [meta, kept], [data, name, new_epoch(), *_bounds(stream)]
    if options.version or options.idempotency_key:
        args += (options.version, options.version_epoch)
    if options.idempotency_key:
        names.append(keys.result(channel, options.idempotency_key))
        args.append(milliseconds(options.idempotency_ttl))
    return Call(PUBLISH, names, args)


@lru_cache
def _bounds(stream: StreamOptions) -> tuple[Argument, ...]:
    """How many publications are kept, for how long, and offset and epoch: the same for all channels of a namespace."""
    bounds = stream.history_size, milliseconds(stream.history_ttl), milliseconds(stream.history_meta_ttl)
    return tuple(b"%d" % bound for bound in bounds)


def message_call(keys: Keys, channel: str, message: bytes) -> Call:
    """To the channel's subscribers, and kept nowhere."""
    return Call(None, [keys.of(b"c", channel)], [message])


def control_call(keys: Keys, data: bytes, node: str = "") -> Call:
    """To every node, or to ``node`` alone."""
    return Call(None, [keys.shared("control", node) if node else keys.shared("control")], [data])


def read_receipt(answer: bytes | int) -> Receipt:
    """The answer of a ``publish_call``; PUBLISH by itself answers with the count of nodes alone."""
    if isinstance(answer, int):
        return Receipt(nodes=answer)
    offset, epoch, nodes = answer.decode().split(":")
    return Receipt(int(offset), epoch, int(nodes))
