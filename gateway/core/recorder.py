"""The flight recorder: the last events of a connection, a user or a channel, kept while somebody has asked for it."""

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from gateway.core.excerpt import READ, excerpt
from gateway.core.wheel import Timer, Wheel
from gateway.messages import ConnectRequest, Request

WATCHES = 16
"""Watches of a node at a time."""

EVENTS = 500
"""Events that are kept of a watch: the last ones."""

CONNECTIONS = 32
"""Connections of one user that are recorded on a node."""

CLAIMS = 50
"""Refusals of a watch that are told of clients which merely say that they are its user: anybody may say so."""

LINGER = 5.0
"""Seconds for which a watch that is over can be read: whoever follows it is to see its end."""

_LONGEST = 256
"""Characters of a text, or of a name that somebody has chosen."""

_MOMENT = 1e-6
"""Seconds between two events at least."""

What = Literal["client", "user", "channel"]


class Subject(NamedTuple):
    """What is watched."""

    what: What
    name: str


class Event(NamedTuple):
    """Something that has happened. ``data`` is an excerpt, or a payload of which one is made when somebody reads it."""

    at: float
    kind: str
    text: str
    client: str = ""
    user: str = ""
    channel: str = ""
    data: str | bytes = ""


class Watch:
    """What is kept of one subject."""

    __slots__ = ("claims", "connections", "dropped", "events", "subject", "timer", "until")

    def __init__(self, subject: Subject, until: float, timer: Timer) -> None:
        self.subject = subject
        self.until = until
        """Unix seconds."""
        self.timer = timer
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.dropped = 0
        """Events that had to make room for later ones."""
        self.connections = 0
        """Those that are recorded for it."""
        self.claims = 0
        """Refusals of those who merely say that they are its user."""

    def add(self, event: Event) -> None:
        self.dropped += len(self.events) == EVENTS
        self.events.append(event)


class Witness(Protocol):
    """What sessions tell while somebody records."""

    def connecting(self, session: Any, request: ConnectRequest) -> None:
        """A client wants to be let in. Nobody knows who it is."""

    def failed(self, session: Any, request: Request, error: Exception) -> None:
        """A request is answered with an error, or by a close."""

    def tell(self, session: Any, kind: str, text: str, channel: str = "", data: object = None) -> None:
        """Something has happened to a connection that is watched."""


class Taps(Protocol):
    """Where the events come from."""

    def begin(self, watch: Watch) -> None: ...

    def end(self, watch: Watch) -> None: ...


class Recorder:
    """The watches of a node. Each ends by itself."""

    def __init__(self, clock: Callable[[], float], wheel: Wheel, taps: Taps) -> None:
        self.watches: dict[Subject, Watch] = {}
        self._clock = clock
        self._wheel = wheel
        self._taps = taps
        self._latest = 0.0

    def start(self, subject: Subject, seconds: float) -> bool:
        """Watch for so long from now on; 0 ends it, and nothing is left of it. False if there are too many."""
        watch = self.watches.get(subject)
        if seconds <= 0:
            if watch is not None:
                self._end(watch)
            return True
        if watch is None and len(self.watches) >= WATCHES:
            return False
        until = self._clock() + seconds
        timer = self._wheel.after(seconds + LINGER, lambda: self._end(self.watches[subject]))
        if watch is None:
            watch = self.watches[subject] = Watch(subject, until, timer)
            self._taps.begin(watch)
        else:
            watch.timer.cancel()
            watch.until, watch.timer = until, timer
        return True

    def note(
        self,
        watch: Watch,
        kind: str,
        text: str,
        *,
        client: str = "",
        user: str = "",
        channel: str = "",
        data: object = None,
    ) -> None:
        """Keep an event. No two have the same moment, so that a reader can go on behind one."""
        if (now := self._clock()) > watch.until:
            return
        self._latest = at = max(now, self._latest + _MOMENT)
        kept = data if isinstance(data, bytes) and len(data) <= READ else excerpt(data)
        watch.add(Event(at, kind, text[:_LONGEST], client[:_LONGEST], user[:_LONGEST], channel[:_LONGEST], kept))

    def _end(self, watch: Watch) -> None:
        del self.watches[watch.subject]
        watch.timer.cancel()
        self._taps.end(watch)
