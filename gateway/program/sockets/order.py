"""The order in which plain sockets are sent things: that of the calls which send them."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from gateway.core.audience import Audience
from gateway.core.hub import Hub
from gateway.core.node import Node
from gateway.errors import BrokerUnavailable


async def arrive(node: Node, channels: Sequence[str]) -> None:
    """Return when plain sockets of this node have been sent what was published here.

    What their routes send them next, a close included, goes straight to the socket, and would overtake it. Clients of
    the SDKs are sent nothing by that way, and nobody waits for them.
    """
    if any(plain(node.hub, channels)):
        with suppress(BrokerUnavailable):  # it has been published all the same
            await node.broker.echo()
        node.hub.flush_plain(*plain(node.hub, channels))


async def arrive_at(node: Node, client: str) -> None:
    """The same, for what was sent here to one client alone."""
    connection = node.hub.connections.get(client)
    if connection is not None and connection.wire.protocol.omits:
        with suppress(BrokerUnavailable):
            await node.broker.echo()
        node.hub.flush()


def plain(hub: Hub, channels: Iterable[str]) -> Iterable[Audience]:
    """The plain sockets of these channels."""
    found = [channel for name in channels if (channel := hub.channels.get(name)) and channel.plain]
    return (each for channel in found for each in channel.audiences.values() if each.key.wire.protocol.omits)
