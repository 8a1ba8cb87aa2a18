"""What is asked of Redis to publish: the same by a node and by a publisher that is none."""

from pathlib import Path
from typing import NamedTuple

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


class Call(NamedTuple):
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
    if stream.keeps_history and not options.skip_history:
        return _append_call(keys, channel, data, stream, options)
    message = envelope.WITHOUT_OFFSET + data
    if not options.idempotency_key:
        return message_call(keys, channel, message)
    names: list[Argument] = [keys.result(channel, options.idempotency_key)]
    return Call(PUBLISH_ONCE, names, [message, milliseconds(options.idempotency_ttl), keys.of(b"c", channel)])


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


def _append_call(keys: Keys, channel: str, data: bytes, stream: StreamOptions, options: PublishOptions) -> Call:
    names: list[Argument] = [keys.of(kind, channel) for kind in (b"m", b"s")]
    if options.idempotency_key:
        names.append(keys.result(channel, options.idempotency_key))
    args: list[Argument] = [
        data,
        new_epoch(),
        stream.history_size,
        milliseconds(stream.history_ttl),
        milliseconds(stream.history_meta_ttl),
        options.version,
        options.version_epoch,
        milliseconds(options.idempotency_ttl),
        keys.of(b"c", channel),
    ]
    return Call(PUBLISH, names, args)
