"""Reading a channel's stream for a subscriber that comes, or comes back.

Source: Centrifuge protocol, "History and recovery".
"""

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.core.node import Node
from gateway.core.recovery import Recovery, newest, recover_cache, recover_stream, resume
from gateway.core.tags import TagsFilter
from gateway.messages import Position, SubscribeResult
from gateway.metrics import Metrics

NEWEST = HistoryFilter(limit=1, reverse=True)
TOP = HistoryFilter()
ALL = HistoryFilter(limit=-1)


async def look_up(
    node: Node,
    channel: Channel,
    options: ChannelOptions,
    since: Position | None,
    *,
    recoverable: bool,
    tags: TagsFilter | None = None,
) -> Recovery:
    """What a subscriber gets that stood at ``since``; None is one that has seen nothing."""
    if since is None and not options.replay:
        stream, top = await node.broker.history(channel.name, TOP, node.stream(channel))
        return Recovery(False, stream, resume(None, top)[1])
    cache = options.force_recovery_mode == "cache"
    recovers = since is not None and recoverable
    replays = since is None and options.replay
    most = node.client.recovery_max_publication_limit
    if cache and (recovers or replays):
        which = NEWEST if tags is None else HistoryFilter(limit=most, reverse=True)
    elif recovers:
        which = HistoryFilter(limit=most, since=since)
    else:
        which = ALL if replays else TOP
    stream, top = await node.broker.history(channel.name, which, node.stream(channel))
    since, top = resume(since, top)
    if since is None or not recovers:
        return Recovery(replays, newest(stream, tags) if cache else stream, top, replays)
    if cache:
        return recover_cache(since, stream, top, tags)
    found = recover_stream(since, stream, top, node.client.recovery_max_size)
    if not found.recovered and options.replay:  # it begins anew, as a newcomer does
        stream, top = await node.broker.history(channel.name, ALL, node.stream(channel))
        return Recovery(True, stream, resume(None, top)[1], replayed=True)
    return found


def say_recovered(
    result: SubscribeResult, found: Recovery, since: Position | None, metrics: Metrics, *, server_side: bool
) -> None:
    """Say in ``result`` where the subscriber stands that stood at ``since``, and what it gets."""
    result.epoch, result.offset = found.position.epoch, found.position.offset
    if since is not None:
        result.recovered = found.recovered and not found.replayed
        metrics.recoveries[result.recovered] += 1
        if result.recovered:
            metrics.recovery_size.observe(len(found.publications))
            result.publications = found.publications
            result.offset = since.offset  # each recovered publication moves the client on from there
    if found.replayed and found.publications:
        result.publications = found.publications
        result.offset = found.publications[0].offset - 1
        # the JavaScript SDK looks at those of a server-side subscription only then
        result.recovered = server_side


async def is_empty(node: Node, channel: Channel) -> bool:
    stream, _ = await node.broker.history(channel.name, NEWEST, node.stream(channel))
    return not stream
