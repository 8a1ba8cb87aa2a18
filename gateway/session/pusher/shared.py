"""What all sessions of the Pusher protocol have in common on a node."""

from gateway.core.node import Node
from gateway.session.pusher.quota import Quota


class Shared:
    """The node, and what it has for this protocol alone."""

    __slots__ = ("node", "quota")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.quota = Quota(node)
