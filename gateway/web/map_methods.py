"""The methods of the server API that are about maps. Source: Centrifuge protocol, "Server API" of maps."""

import base64
from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from gateway.batches import batches, in_turns
from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.map_reading import AT_A_TIME, read_changes, read_entries
from gateway.core.node import Node
from gateway.core.recovery import resume
from gateway.errors import Error, ErrorCode
from gateway.maps.base import KeyMode, MapOptions, MapReceipt, MapStore, MapWrite
from gateway.messages import Position, Publication
from gateway.protocols.centrifuge_json import encode, wire_publication
from gateway.web import map_messages as messages
from gateway.web.api_messages import Done
from gateway.web.arguments import find_channel, published

ALL = -1


async def publish(node: Node, request: messages.MapPublishRequest) -> messages.MapWriteResult:
    _, channel, _ = _map(node, request.channel)
    data, binary = published(request.data, request.b64data, channel)
    publication = Publication(data, key=request.key, tags=request.tags, binary=binary)
    write = MapWrite(
        key_mode=_key_mode(request.key_mode),
        idempotency_key=request.idempotency_key,
        version=request.version,
        version_epoch=request.version_epoch,
        delta=request.delta,
    )
    check_key(channel, request.key)
    return _written(await node.maps.publish(channel, publication, write))


async def remove(node: Node, request: messages.MapRemoveRequest) -> messages.MapWriteResult:
    _, channel, _ = _map(node, request.channel)
    check_key(channel, request.key)
    write = MapWrite(idempotency_key=request.idempotency_key)
    return _written(await node.maps.remove(channel, request.key, write))


async def read_state(node: Node, request: messages.MapReadStateRequest) -> messages.MapStateResult:
    store, channel, options = _map(node, request.channel)
    if request.key:
        page = await store.read_key(channel.name, options, request.key)
    else:
        page = await read_entries(node.maps, channel, request.limit, request.cursor)
    _, top = resume(None, page.position)
    if request.revision_epoch and request.revision_epoch != top.epoch:
        raise Error(ErrorCode.UNRECOVERABLE_POSITION)
    return messages.MapStateResult(await _entries(page.entries), top.offset, top.epoch, page.cursor)


async def read_stream(node: Node, request: messages.MapReadStreamRequest) -> messages.MapStreamResult:
    _, channel, _ = _map(node, request.channel)
    since = None
    if request.since_offset or request.since_epoch:
        since = Position(request.since_offset, request.since_epoch)
    which = HistoryFilter(max(request.limit, ALL), since, request.reverse)
    changes, top = await read_changes(node.maps, channel, which)
    return messages.MapStreamResult(await _entries(changes), top.offset, top.epoch)


async def stats(node: Node, request: messages.MapStatsRequest) -> messages.MapStatsResult:
    store, channel, _ = _map(node, request.channel)
    return messages.MapStatsResult(await store.count(channel.name))


async def clear(node: Node, request: messages.MapClearRequest) -> Done:
    """Its subscribers load it anew."""
    store, channel, _ = _map(node, request.channel)
    await store.clear(channel.name)
    await node.cluster.notify("map_cleared", channel.name)
    return Done()


def _key_mode(text: str) -> KeyMode:
    match text:
        case "" | "if_new" | "if_exists":
            return text
    raise Error(ErrorCode.BAD_REQUEST, "bad request: key_mode must be if_new or if_exists, or be left out")


def check_key(channel: Channel, key: str) -> None:
    """Raises ``Error`` (bad request) for a key longer than the channel's may be."""
    if len(key.encode()) > channel.options.map.max_key_length:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the key is too long")


def _map(node: Node, name: str) -> tuple[MapStore, Channel, MapOptions]:
    channel = find_channel(node, name)
    options = node.maps.options(channel)
    return node.maps.store, channel, options


def _written(receipt: MapReceipt) -> messages.MapWriteResult:
    return messages.MapWriteResult(receipt.offset, receipt.epoch, bool(receipt.suppressed), receipt.suppressed)


async def _entries(publications: Sequence[Publication]) -> Raw:
    """The list of them, written in parts: to write all in one go would hold up everybody else."""
    parts = await in_turns(batches(publications, AT_A_TIME), 1, lambda some: encode([_entry(each) for each in some]))
    return Raw(b"[%b]" % b",".join(part[1:-1] for part in parts))


def _entry(publication: Publication) -> Any:
    entry: dict[str, Any] = {"key": publication.key}
    if publication.binary:
        entry["b64data"] = base64.b64encode(publication.data).decode()
    elif publication.data:
        entry["data"] = wire_publication(publication).data
    for name in ("info", "offset", "tags", "removed", "time"):
        if value := getattr(publication, name):
            entry[name] = value
    return entry
