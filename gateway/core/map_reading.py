"""Reading a map from outside: its entries, a page or all of them, and its changes since a position."""

import asyncio
from collections.abc import Sequence

from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.maps import Maps
from gateway.core.recovery import resume
from gateway.errors import Error, ErrorCode
from gateway.maps.base import MapPage
from gateway.messages import Position, Publication

AT_A_TIME = 1000
"""Entries that are read at a time: some five milliseconds of Redis, for which everybody else waits."""


async def read_entries(maps: Maps, channel: Channel, limit: int, cursor: str = "") -> MapPage:
    """At most ``limit`` entries after the cursor, and no more than are read at a time; -1 is all that there are."""
    if limit < 0:
        return await _read_all(maps, channel, cursor)
    page = await maps.store.read_state(channel.name, maps.options(channel), min(limit, AT_A_TIME), cursor)
    return page._replace(position=_plain(page.position))


async def _read_all(maps: Maps, channel: Channel, after: str) -> MapPage:
    """Page by page, and then what has changed meanwhile, so that all is as of one moment.

    Where that cannot be told, since the map has no stream or one too short, the position is that of the first page.
    """
    page = first = await read_entries(maps, channel, AT_A_TIME, after)
    entries = {each.key: each for each in page.entries}
    while page.cursor:
        await asyncio.sleep(0)
        page = await read_entries(maps, channel, AT_A_TIME, page.cursor)
        if page.position.epoch != first.position.epoch:  # another map, begun anew
            return await _read_all(maps, channel, after)
        entries.update((each.key, each) for each in page.entries)
    if page.position == first.position:
        return MapPage(list(entries.values()), first.position)
    which = HistoryFilter(limit=-1, since=first.position)
    changes, top = await maps.store.read_stream(channel.name, maps.options(channel), which)
    if not is_continuous(first.position, changes, _plain(top)):
        return MapPage(list(entries.values()), first.position)
    for each in changes:
        entries.pop(each.key, None)
        if not each.removed and each.key > after:
            entries[each.key] = each
    return MapPage(sorted(entries.values(), key=lambda each: each.key), _plain(top))


async def read_changes(maps: Maps, channel: Channel, which: HistoryFilter) -> tuple[list[Publication], Position]:
    """Part of the latest changes, and where the map stands. Raises ``Error`` (112) where some are lost."""
    changes, position = await maps.store.read_stream(channel.name, maps.options(channel), which)
    since, top = resume(which.since, position)
    if since is not None and since.epoch not in ("", top.epoch):
        raise Error(ErrorCode.UNRECOVERABLE_POSITION)
    if since is not None and since.offset and not which.reverse and which.limit:
        missed = since.offset < top.offset and (not changes or changes[0].offset != since.offset + 1)
        if missed or since.offset > top.offset:
            raise Error(ErrorCode.UNRECOVERABLE_POSITION)
    return changes, top


def is_continuous(since: Position, changes: Sequence[Publication], top: Position, limit: int = -1) -> bool:
    """Whether ``changes`` are those after ``since``: up to the top, or as many as ``limit``."""
    wanted = top.offset - since.offset
    if limit >= 0:
        wanted = min(wanted, limit)
    follows = all(each.offset == number for number, each in enumerate(changes, since.offset + 1))
    return since.epoch == top.epoch and len(changes) == wanted and follows


def _plain(position: Position) -> Position:
    return resume(None, position)[1]
