"""What a node is told of the block list."""

from collections.abc import Mapping
from math import isinf


class Recorder:
    """Satisfies ``BlockEvents``."""

    def __init__(self) -> None:
        self.users: dict[str, float] = {}
        self.events: list[str] = []

    def on_list(self, users: Mapping[str, float]) -> None:
        self.users = dict(users)
        self.events.append("list")

    def on_block(self, user: str, seconds: float) -> None:
        self.users[user] = seconds
        self.events.append(f"+{user}")

    def on_unblock(self, user: str) -> None:
        self.users.pop(user, None)
        self.events.append(f"-{user}")

    @property
    def shown(self) -> dict[str, object]:
        """Whole hours, and "ever"."""
        return {user: "ever" if isinf(left) else round(left / 3600) for user, left in self.users.items()}
