"""What is known to be true: what was accepted, who is subscribed, what everybody heard. Faults are put in words."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Membership:
    """One client id in one channel, as the client itself saw it."""

    node: int
    asked: int = 0
    """Subscriptions it has asked for, or the server may have made."""
    ended: int = 0
    """How many have ended, or may have."""
    live: bool = False
    lapsed: bool = False
    """Whether its node was cut off for longer than its lease holds, so that others took it for dead for a while."""


@dataclass
class Model:
    """Filled while it runs, and asked in the end."""

    faults: list[str] = field(default_factory=list)
    accepted: dict[str, dict[str, tuple[str, int]]] = field(default_factory=lambda: defaultdict(dict))
    """By channel and publication: epoch and offset, as the server answered."""
    heard: dict[str, dict[tuple[str, int], str]] = field(default_factory=lambda: defaultdict(dict))
    """By channel and position: the publication that subscribers found there."""
    members: dict[tuple[str, str], Membership] = field(default_factory=dict)
    """By client id and channel."""
    users: dict[str, str] = field(default_factory=dict)
    """By client id."""
    seen: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """By client id and channel: the joins and leaves that the observer heard."""
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, text: str) -> None:
        if text not in self.faults:
            self.faults.append(text)

    # — while it runs —

    def accept(self, channel: str, name: str, epoch: str, offset: int) -> None:
        self.accepted[channel][name] = (epoch, offset)

    def hear(self, who: str, channel: str, position: tuple[str, int], name: str) -> None:
        self.counts["deliveries"] += 1
        known = self.heard[channel].setdefault(position, name)
        if known != name:
            self.fault(f"{who}: {channel} has {name} at {position}, where others heard {known}")

    def member(self, client: str, channel: str, node: int) -> Membership:
        return self.members.setdefault((client, channel), Membership(node))

    def lapse(self, node: int) -> None:
        """The node is, or was, cut off for so long that its members may be taken for dead."""
        for member in self.members.values():
            member.lapsed |= member.node == node

    def shown_as_gone(self, node: int) -> list[tuple[str, str]]:
        """Client id and channel of members that are there, and were last heard to leave."""
        return [
            key
            for key, member in self.members.items()
            if member.live and member.node == node and self.seen[key][-1:] == ["leave"]
        ]

    # — in the end —

    def present(self, channel: str) -> set[str]:
        """Client ids of those that are subscribed."""
        return {client for (client, where), member in self.members.items() if where == channel and member.live}

    def check_streams(self) -> None:
        """Each accepted publication stands in the stream once, and nothing else does."""
        for channel, accepted in self.accepted.items():
            if len({epoch for epoch, _ in accepted.values()}) != 1:
                self.fault(f"{channel} has changed its epoch, though Redis has lost nothing")
            offsets = sorted(offset for _, offset in accepted.values())
            if offsets != list(range(1, len(offsets) + 1)):
                self.fault(f"{channel} has {len(offsets)} publications at {_gaps(offsets)}")
            for name, position in accepted.items():
                if self.heard[channel].get(position, name) != name:
                    self.fault(f"{channel}: {name} at {position} was heard as {self.heard[channel][position]}")

    def check_joins(self, calm: int) -> None:
        """What the observer, on the calm node, heard of everybody.

        Of members of that node, on which nothing is lost: join and leave take turns, a join first, and the last is
        a join for those who are there and a leave for those who are not. Of members elsewhere joins and leaves may
        be lost with the connection to Redis; but none left more often than it ended, or joined more often than it
        asked, unless its node was cut off for longer than its lease holds.
        """
        for (client, channel), heard in self.seen.items():
            member = self.members.get((client, channel))
            if member is None:
                # a connection whose client did not live to hear its own id; it can have ended but once
                if heard.count("leave") > 1:
                    self.fault(f"{channel}: a stranger {client} was heard to {heard}")
            elif member.node == calm:
                count = 2 * member.asked - member.live
                if heard != (["join", "leave"] * member.asked)[: len(heard)] or len(heard) % 2 != member.live:
                    self.fault(f"{channel}: {client} of the calm node was heard to {heard}, at most {count}")
            elif not member.lapsed:
                if heard.count("leave") > member.ended:
                    self.fault(f"{channel}: {client} was heard to {heard}, and has left {member.ended} times")
                if heard.count("join") > member.asked:
                    self.fault(f"{channel}: {client} was heard to {heard}, and has asked {member.asked} times")


def _gaps(offsets: list[int]) -> str:
    wrong = [offset for index, offset in enumerate(offsets, 1) if offset != index]
    return f"offsets up to {offsets[-1]}, first out of line {wrong[0]}"
