"""The order in which plain sockets are sent things: that of the calls which send them."""

from collections.abc import Sequence
from contextlib import suppress

from gateway.core.node import Node
from gateway.errors import BrokerUnavailable


async def arrive(node: Node, channels: Sequence[str]) -> None:
    """Return when what has been published to these channels has been written to the plain sockets of this node.

    What their routes send them next, a close included, goes straight to the socket, and would overtake it. Clients of
    the SDKs are sent nothing by that way, and nobody waits for them.
    """
    if not any(map(node.hub.plain, channels)):
        return
    with suppress(BrokerUnavailable):  # it has been published all the same
        await node.broker.echo()
    for name in channels:
        node.hub.write(node.hub.plain(name))
