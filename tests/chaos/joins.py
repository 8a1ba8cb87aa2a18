"""What observers hear of who comes to the rooms and who goes."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.chaos.record import Membership

Members = Mapping[tuple[str, str], Membership]


class Joins:
    """One observer's. What it heard before it lost the channel counts no more."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.twice: list[str] = []
        """Two joins, or two leaves, in a row."""
        self._last: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._leaves: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def start(self, channel: str) -> None:
        self._last[channel].clear()
        self._leaves[channel].clear()

    def hear(self, kind: str, channel: str, client: str) -> None:
        if self._last[channel].get(client) == kind:
            self.twice.append(f"{self.who} heard {client} {kind} {channel} twice")
        self._last[channel][client] = kind
        self._leaves[channel][client] += kind == "leave"

    def shown_as_gone(self, members: Members) -> list[str]:
        """Members that are there, and were last heard to leave."""
        return [
            f"{self.who} last heard {client} leave {channel}, where it is"
            for (client, channel), member in members.items()
            if member.live and self._last[channel].get(client) == "leave"
        ]

    def shown_as_there(self, members: Members) -> list[str]:
        """Members that have gone, and were last heard to join."""
        return [
            f"{self.who} last heard {client} join {channel}, where it is no more"
            for channel, last in self._last.items()
            for client, kind in last.items()
            if kind == "join" and (member := members.get((client, channel))) is not None and not member.live
        ]

    def left_too_often(self, members: Members) -> list[str]:
        """Members that were heard to leave more often than they did."""
        return [
            f"{self.who} heard {client} leave {channel} {count} times, which it left {member.ended} times"
            for channel, leaves in self._leaves.items()
            for client, count in leaves.items()
            if (member := members.get((client, channel))) is not None and count > member.ended
        ]
