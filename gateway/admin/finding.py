"""Which connections of a node are looked for: a page of them in order, and nobody has to wait for it."""

import asyncio
from collections.abc import Callable, Iterable
from heapq import nsmallest
from ipaddress import ip_network
from itertools import chain
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from gateway.batches import batches
from gateway.core.audience import Connection
from gateway.core.hub import Hub
from gateway.errors import Error, ErrorCode
from gateway.limits.addresses import read_address

PORTION = 1_000
"""Connections that are looked at before others have their turn: a millisecond or two."""

Wanted = Callable[[str], bool]
"""Whether an address is looked for."""


async def find_clients(hub: Hub, *, user: str, channel: str, wanted: Wanted | None, after: str, most: int) -> list[str]:
    """The next ids behind ``after``, at most so many, of connections that meet all of what is given."""
    found: list[str] = []
    for some in batches(_those_of(hub, user, channel), PORTION):
        last = found[-1] if len(found) == most else None
        new = [
            client
            for each in some
            if (client := each.client) > after
            and (last is None or client < last)
            and (wanted is None or wanted(each.address))
            and (not (user and channel) or channel in each.subscriptions)
        ]
        if new:
            found = nsmallest(most, found + new)
        await asyncio.sleep(0)
    return found


def _those_of(hub: Hub, user: str, channel: str) -> Iterable[Any]:
    """The connections of a user, of a channel's subscribers, or all: a copy, for they come and go."""
    if user:
        return hub.of_user(user)
    if not channel:
        return list(hub.connections.values())
    local = hub.channels.get(channel)
    members = [*chain.from_iterable(audience.members for audience in local.audiences.values())] if local else []
    return (connection for each in members if _is_open(hub, connection := each.connection))


def _is_open(hub: Hub, connection: Connection) -> bool:
    """Whether it is a client's; the program itself listens, too."""
    return hub.connections.get(connection.client) is connection


def read_wanted(text: str) -> Wanted | None:
    """What an address or a network stands for, None for nothing. Raises ``Error`` for what is neither."""
    if not text:
        return None
    address = read_address(text)
    if address is not None:
        return frozenset((text, str(address), f"::ffff:{address}")).__contains__
    if "/" not in text:
        return text.__eq__
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Error(
            ErrorCode.BAD_REQUEST, "bad request: address must be one, or a network, for example 10.0.0.0/8"
        ) from None

    first, last = network.network_address.packed, network.broadcast_address.packed

    def within(host: str) -> bool:
        packed = _packed(host)
        return len(packed) == len(first) and first <= packed <= last

    return within


def _packed(host: str) -> bytes:
    """An address's bytes, at a tenth of what `ipaddress` takes; nothing, of another word."""
    try:
        if ":" not in host:
            return inet_pton(AF_INET, host)
        packed = inet_pton(AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):  # a null byte, which nobody's address has
        return b""
    return packed.removeprefix(_MAPPED)


_MAPPED = bytes(10) + b"\xff\xff"
"""Of an IPv4 address in an IPv6 one."""
