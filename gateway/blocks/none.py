"""No block list: where nothing is kept, a node that starts would not know of it."""

from gateway.blocks.base import BlockEvents
from gateway.errors import Error, ErrorCode

NO_LIST = (
    'not available: engine.type = "broadcaster" keeps no list of blocked users; refuse the user in on_connect and send '
    'its connections away with disconnect, or let engine.type = "redis" join the nodes'
)


class NoBlocks:
    """Nobody is blocked, and nobody can be."""

    async def start(self, events: BlockEvents) -> None:
        events.on_list({})

    async def close(self) -> None:
        pass

    def reload(self) -> None:
        pass

    async def block(self, user: str, seconds: float) -> None:
        """Raises ``Error`` 108."""
        raise Error(ErrorCode.NOT_AVAILABLE, NO_LIST)

    async def unblock(self, user: str) -> None:
        pass
