"""Where events of apps wait to be told by webhooks, and what decides that there are any: who is where, on all nodes.

That the first has come to a place, or the last has gone, and the event that says so, are one act of the backend. So
there is one event for each change, whichever node made it, died of it, or asked twice. The event stays until it has
been told, by whichever node tells; in three steps, each of which may be taken again:

- It *waits* in the queue of its app: not at all, or for ``Rules.delay`` seconds if it says that somebody has gone.
  Who comes back meanwhile takes it away, and has not come.
- It is *sorted* to those that want it: to each target of the app, to be told there in order.
- It is *settled*: told, or put aside as a dead letter.

All that is an app's lies together, beside each other in one partition, for that alone makes its order and its limits
a matter of one script. An app has no more events than one receiver can be told; it is not what has to be spread.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from gateway.errors import Error, ErrorCode

MOST = 50_000
"""Events of an app that wait, and that a target of it has not been told."""

ROOM = 64 * 2**20
"""Bytes of the same: a dozen megabytes do for so many, but for client events of the largest kind."""

KEEP = 24 * 3600.0
"""Seconds that events outlive a cluster which died as a whole."""

REMEMBERED = 3600.0
"""Seconds for which it is known what was told last, after that was last asked."""


class Place(NamedTuple):
    """Where somebody may be: a channel, by the name that clients of its app have for it; or one user's part in it."""

    app: str
    channel: str
    user: str = ""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(text: bytes) -> "Place":
        return msgspec.json.decode(text, type=Place)

    def came(self) -> bytes:
        """The event that somebody is there."""
        return self._event("member_added" if self.user else "channel_occupied")

    def gone(self) -> bytes:
        """The event that nobody is there any more."""
        return self._event("member_removed" if self.user else "channel_vacated")

    def _event(self, name: str) -> bytes:
        return encode(name, self.channel, user_id=self.user) if self.user else encode(name, self.channel)


def encode(name: str, channel: str, **fields: str | int) -> bytes:
    """An event as it is told."""
    return msgspec.json.encode({"name": name, "channel": channel, **fields})


class Event(Struct, frozen=True):
    """One that is kept. The text names it: its id, what it is held under while it waits, and what is told."""

    text: bytes

    @property
    def id(self) -> str:
        """A number that grows within an app, by the microsecond at which it happened."""
        return self.text.partition(b"\n")[0].decode()

    @property
    def time(self) -> float:
        """When it happened, by the backend's clock."""
        return int(self.id) / 1e6

    @property
    def body(self) -> bytes:
        """What is told: JSON."""
        return self.text.split(b"\n", 2)[2]

    @property
    def about(self) -> "About":
        return msgspec.json.decode(self.body, type=About)


class About(Struct, frozen=True):
    """What an event tells of."""

    name: str
    channel: str


class Waiting(Struct, frozen=True):
    """What an app has to be told: its key, by which it can be found; what is due; and its targets that are behind."""

    key: str
    due: Sequence[Event] = ()
    targets: frozenset[str] = frozenset()


class Rules(NamedTuple):
    """What holds for the events of all apps."""

    delay: float = 3.0
    """Seconds for which somebody may be gone before that is told."""
    dead_letters: int = 1000
    """How many are kept for each app; older ones make place."""
    most: int = MOST
    room: int = ROOM


RULES = Rules()

Lost = Callable[[str, int], None]
"""Called with an app, and how many of its events there was no place for."""


class OutboxFull(Error):  # noqa: N818  like BrokerUnavailable
    """An app has too many events that wait."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.LIMIT_EXCEEDED)


class Outbox(Protocol):
    """One implementation per backend.

    What is not said otherwise may raise ``BrokerUnavailable``, within five seconds. ``key`` is any of an app's keys.
    """

    rules: Rules
    lost: Lost
    """Told of events that were not kept, since their app has too many; by the node that made them."""

    async def start(self, node: str) -> None:
        """Take up the node's lease. Returns even when the backend cannot be reached yet."""

    async def close(self) -> None:
        """Leave all places; that nobody is there any more waits, for others to come back to other nodes."""

    # — what happens —

    async def enter(self, place: Place, key: str) -> None:
        """This node has somebody there from now on. What cannot be done now is made good: nothing is raised."""

    async def leave(self, place: Place) -> None:
        """This node has nobody there any more. Nothing is raised."""

    async def add(self, app: str, key: str, event: bytes, once: tuple[str, str] | None = None) -> None:
        """Keep an event that is due at once. Raises ``OutboxFull``.

        ``once`` has what is asked and what it is now: nothing is kept if it was the same when it was last asked.
        """

    async def count(self, app: str, key: str, channel: str, number: int, gap: float) -> None:
        """Keep that so many subscribe to a channel, unless that was kept last. Raises ``OutboxFull``.

        It is due ``gap`` seconds after the last at the earliest; which is told then is the newest.
        """

    # — what is told —

    async def pending(self) -> list[str]:
        """The apps that have any events, due or not."""

    async def waiting(self, app: str, limit: int) -> Waiting:
        """What an app has to be told, of what is due no more than ``limit``, or than can well be handled, in order."""

    async def sort(self, app: str, events: Sequence[tuple[Event, Sequence[str]]]) -> int:
        """Hand events on to targets. Answers how many had no place there, and are lost."""

    async def of(self, app: str, target: str, limit: int) -> list[Event]:
        """What a target is to be told next, in order."""

    async def settle(self, app: str, target: str, events: Sequence[Event]) -> None:
        """These have been told."""

    async def put_aside(self, app: str, target: str, events: Sequence[Event]) -> None:
        """These cannot be told: keep them among the dead letters."""

    async def dead_letters(self, app: str) -> list[Event]:
        """Those of an app, the newest first."""


def ignore(_app: str, _number: int) -> None:
    """Nobody is told."""


def microseconds(seconds: float) -> int:
    """A time as ids of events and their moments have it."""
    return round(seconds * 1_000_000)
