"""What is said of channels where ``info`` asks for it."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from msgspec.json import decode, encode

from gateway.apps.base import App
from gateway.batches import batches
from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.node import Node
from gateway.core.tasks import at_once
from gateway.errors import BrokerUnavailable
from gateway.kinds import Kind, kind_of
from gateway.messages import Publication
from gateway.protocols.pusher import FORMAT, TEXT
from gateway.web.pusher.events import TIME, bad

log = logging.getLogger(__name__)

USER_COUNT, SUBSCRIPTION_COUNT, CACHE = "user_count", "subscription_count", "cache"

QUESTION = "pusher_subscribers"
"""Of the cluster: how many subscribe on a node to each of some channels, which are the argument."""

ASKED = 200
"""Channels of one question: it passes by the connection that carries the publications."""

_NEWEST = HistoryFilter(1, reverse=True)


class Wanted(NamedTuple):
    """What is asked of a channel, which has the name that the backend calls it by."""

    name: str
    attributes: Collection[str]


def read_info(text: str) -> list[str]:
    """The attributes that ``info`` names."""
    return [each for each in (part.strip() for part in text.split(",")) if each]


def check_info(text: str, kind: Kind) -> list[str]:
    """The same. Raises ``Error`` for what channels of the kind have not."""
    wanted = read_info(text)
    has = {USER_COUNT: kind.presence, SUBSCRIPTION_COUNT: True, CACHE: kind.cached}
    for each in wanted:
        if not has.get(each):
            raise bad(f"info = {each!r:.100} is nothing that such a channel has")
    return wanted


async def attributes(node: Node, app: App, wanted: Sequence[Wanted]) -> list[dict[str, int]]:
    """The counts that are asked for, of each; what a channel does not have is left out.

    Raises ``BrokerUnavailable``.
    """
    found = {each.name: node.channels.resolve(app.names.inside(each.name)) for each in wanted}
    kept = {each.name for each in wanted if _is_kept(found[each.name], each)}
    asked = {each.name for each in wanted if SUBSCRIPTION_COUNT in each.attributes} - kept
    stats = dict(zip(kept, await at_once(lambda name: node.presence_stats(found[name]), list(kept)), strict=True))
    subscribers = await _subscribers(node, {found[name].name for name in asked})

    def counts(name: str) -> tuple[int, int]:
        return stats[name] if name in stats else (subscribers.get(found[name].name, 0), 0)

    def told(each: Wanted) -> dict[str, int]:
        clients, users = counts(each.name)
        known = {USER_COUNT: users} if kind_of(each.name).presence else {}
        return {
            name: count for name, count in {SUBSCRIPTION_COUNT: clients, **known}.items() if name in each.attributes
        }

    return [told(each) for each in wanted]


def _is_kept(channel: Channel, wanted: Wanted) -> bool:
    """Whether presence knows what is asked."""
    users = USER_COUNT in wanted.attributes and kind_of(wanted.name).presence
    return users or (channel.options.presence and SUBSCRIPTION_COUNT in wanted.attributes)


async def cached(node: Node, channel: Channel) -> dict[str, Any] | None:
    """What a cache channel has for those who come, and for how many seconds; None if it has nothing."""
    if not channel.options.keeps_history:
        return None
    publications, _ = await node.history(channel, _NEWEST)
    if not publications:
        return None
    [newest] = publications
    return {"data": _posted(newest), "ttl": _ttl(channel, newest, node.clock())}


def _posted(publication: Publication) -> str:
    """Data as it was posted."""
    if (publication.tags or {}).get(FORMAT) == TEXT:
        return str(decode(publication.data))
    return publication.data.decode(errors="replace")


def _ttl(channel: Channel, publication: Publication, now: float) -> int:
    """How many seconds it stays, as far as it says when it was published."""
    said = (publication.tags or {}).get(TIME, "")
    published = int(said) / 1000 if said.isascii() and said.isdigit() and len(said) < 20 else now
    return ceil(min(channel.options.history_ttl, max(0.0, published + channel.options.history_ttl - now)))


# — subscribers, on all nodes —


def answer_counts(node: Node) -> None:
    """Have the node answer how many subscribe there."""

    async def answer(argument: str) -> bytes:
        return encode([node.hub.subscribers(channel) for channel in decode(argument, type=list[str])])

    node.answers[QUESTION] = answer


async def _subscribers(node: Node, channels: Iterable[str]) -> Mapping[str, int]:
    """How many there are, by the gateway's names. Nodes that do not answer in time are left out, and logged."""
    counts: dict[str, int] = {}
    for some in batches(channels, ASKED):
        told = await node.cluster.ask(QUESTION, encode(some).decode(), read=_counts)
        if told.missing:
            if not node.broker.health().connected:
                raise BrokerUnavailable
            log.warning("count of subscribers: no answer from %s", ", ".join(told.missing))
        totals = map(sum, zip(*told.answers.values(), strict=True))
        counts |= dict(zip(some, totals, strict=True))
    return counts


def _counts(body: bytes) -> list[int]:
    return decode(body, type=list[int])
