"""What all sessions of the Pusher protocol have in common on a node."""

from gateway.core.node import Node
from gateway.session.pusher.hooks import Hooks, NoHooks
from gateway.session.pusher.quota import Quota


class Shared:
    """The node, and what it has for this protocol alone."""

    __slots__ = ("hooks", "node", "quota")

    def __init__(self, node: Node, hooks: Hooks | None = None) -> None:
        self.node = node
        self.hooks: Hooks = hooks or NoHooks()
        self.quota = Quota(node)
