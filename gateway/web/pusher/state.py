"""Calls that ask who is where, and the one that ends connections."""

import asyncio
import glob
from typing import Any

from msgspec import Raw
from msgspec.json import decode, encode

from gateway.batches import batches
from gateway.channels import Channel
from gateway.core.node import Node
from gateway.kinds import INBOX, LONGEST_NAME, PUBLIC, Kind, Names, is_name, is_user, kind_of
from gateway.session.pusher import quota, terminating
from gateway.web.methods import FAIR, MEMBERS
from gateway.web.pusher.attributes import (
    CACHE,
    SUBSCRIPTION_COUNT,
    USER_COUNT,
    Wanted,
    attributes,
    cached,
    check_info,
)
from gateway.web.pusher.calls import Call
from gateway.web.pusher.events import bad, check_channel

_LISTED = Kind("presence", presence=True)
"""What channels have in common whose names begin with ``presence-``."""


async def channels(node: Node, call: Call) -> dict[str, Any]:
    """The channels that somebody subscribes to; inboxes only where the prefix asks for them."""
    prefix = call.query.get("filter_by_prefix", "")
    asked = check_info(call.query.get("info", ""), _LISTED if prefix.startswith("presence-") else PUBLIC)
    written: list[bytes] = []
    cursor = ""
    while len(prefix) <= LONGEST_NAME:  # no name begins with more
        found = await node.cluster.survey("channels", _pattern(call.app.names, prefix), cursor)
        for some in batches(found.items(), FAIR):
            counts = _shown(call.app.names, prefix, dict(some))
            written.append(encode(await _described(node, call, counts, asked))[1:-1])
            await asyncio.sleep(0)
        cursor = found.cursor
        if not cursor:
            break
    return {"channels": Raw(b"{%b}" % b",".join(filter(None, written)))}


def _pattern(names: Names, prefix: str) -> str:
    """What the names match in the gateway; some others may, too."""
    begin = "#" + prefix[len(INBOX) :] if prefix.startswith("#") else prefix
    return f"{glob.escape(names.prefix + begin)}*"


def _shown(names: Names, prefix: str, counts: dict[str, int]) -> dict[str, int]:
    """Those that are the app's and begin so, by what backends call them."""
    outside = {names.outside(channel): count for channel, count in counts.items()}
    return {
        name: count
        for name, count in outside.items()
        if name.startswith(prefix) and is_name(name) and (prefix.startswith("#") or not kind_of(name).inbox)
    }


async def _described(node: Node, call: Call, counts: dict[str, int], asked: list[str]) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = {name: {} for name in counts}
    if SUBSCRIPTION_COUNT in asked:
        told = {name: {SUBSCRIPTION_COUNT: count} for name, count in counts.items()}
    if USER_COUNT in asked:
        users = await attributes(node, call.app, [Wanted(name, [USER_COUNT]) for name in counts])
        told = {name: {**told[name], **found} for name, found in zip(counts, users, strict=True)}
    return told


async def channel(node: Node, call: Call) -> dict[str, Any]:
    """Whether anybody subscribes to a channel, and what else is asked of it."""
    name, found = _named(node, call)
    asked = check_info(call.query.get("info", ""), kind_of(name))
    [counts] = await attributes(node, call.app, [Wanted(name, [SUBSCRIPTION_COUNT, *asked])])
    told: dict[str, Any] = {"occupied": counts[SUBSCRIPTION_COUNT] > 0}
    told |= {each: counts[each] for each in asked if each in counts}
    if CACHE in asked:
        told[CACHE] = await cached(node, found)
    return told


async def users(node: Node, call: Call) -> dict[str, Any]:
    """Who is in a presence channel, each user once; somebody without an id by that of the connection."""
    name, found = _named(node, call)
    if not kind_of(name).presence:
        raise bad("users are those of a presence channel, as presence-lobby")
    ids: dict[str, None] = {}
    cursor = ""
    while True:
        members, cursor = await node.presence_page(found, MEMBERS, cursor)
        ids |= dict.fromkeys(each.user or each.client for each in members.values())
        if not cursor:
            return {"users": [{"id": each} for each in ids]}


def _named(node: Node, call: Call) -> tuple[str, Channel]:
    """The channel of the path, as backends call it and as it is. Raises ``Error``."""
    name = call.params["channel"]
    check_channel(call.app, name)
    return name, node.channels.resolve(call.app.names.inside(name))


async def terminate(node: Node, call: Call) -> dict[str, Any]:
    """Close all connections that are signed in as a user."""
    user = call.params["user"]
    if not is_user(user):
        raise bad(f"{user!r:.100} is no user's id: letters, digits and _-=@,.; at most {LONGEST_NAME}")
    await node.cluster.notify(terminating.NOTICE, terminating.notice(call.app.id, user))
    return {}


async def connections(node: Node, call: Call) -> dict[str, Any]:
    """How many connections the app has."""
    told = await node.cluster.ask(quota.QUESTION, call.app.id, read=lambda body: decode(body, type=int))
    return {"connections": sum(told.answers.values())}
