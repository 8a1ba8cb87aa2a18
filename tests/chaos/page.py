"""A client as the SDKs are: backoff with full jitter, recovery by epoch and offset, codes obeyed, pings answered.

It is an ``asyncio.Protocol`` without task or timer of its own, so that one process carries thousands. ``look`` is to
be called every so often. Source: Centrifuge protocol, "Codes", "Subscribing and unsubscribing", "Recovery".
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, cast

from tests.chaos.record import Record
from tests.chaos.wire import CLOSE, PONG, TEXT, Line, Push, Subscribed, frame, frames, read_line, upgrade
from tests.chaos.wire import Publication as Pub

ANSWER = 5.0
"""Seconds after which a command without an answer is given up, and the connection with it."""
LATE = 5.0
"""Seconds that a ping may be late before the connection is dead."""
SHORTEST, LONGEST = 0.5, 5.0
"""Seconds of backoff: at least, and at most."""
RESUBSCRIBE = 2500
"""From this code on a client subscribes again by itself."""


def terminal(code: int) -> bool:
    """Whether a client that is closed with this code stays away."""
    return 3500 <= code <= 3999 or 4500 <= code <= 4999


class Subscription:
    """One channel, and where the client stands in it."""

    __slots__ = ("anew", "asked_at", "channel", "due", "epoch", "failures", "live", "number", "offset", "room", "told")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.room = channel.startswith("room:")
        self.epoch: str | None = None
        self.offset = 0
        self.number = 0
        """Of the last publication. The next one has the next: whoever publishes waits until one is accepted."""
        self.anew = True
        """Whether it was told that nothing is recovered, and has got nothing since."""
        self.live = False
        self.due = 0.0
        """When it is to be asked for again, if it is neither live nor asked for."""
        self.asked_at = 0.0
        self.failures = 0
        self.told = 0
        """How often it was told that it did not recover."""

    def request(self) -> dict[str, Any]:
        if self.epoch is None:
            return {"channel": self.channel}
        return {"channel": self.channel, "recover": True, "epoch": self.epoch, "offset": self.offset}


class Page(asyncio.Protocol):
    """One user's page. Call ``connect`` when it is ``due``."""

    def __init__(self, user: str, token: str, channels: list[str], record: Record, dice: random.Random) -> None:
        self.user = user
        self.client = ""
        """Its id while it is connected."""
        self.due: float | None = 0.0
        """When it is to connect; None while it does, or is."""
        self.subscriptions = {channel: Subscription(channel) for channel in channels}
        self.heard_join: Callable[[str, str, str], None] | None = None
        """Told of kind, channel and client id of each join and leave."""
        self.heard_start: Callable[[str], None] | None = None
        """Told of a channel that is heard from now on."""
        self.ponged: Callable[[], None] | None = None
        """Told of each pong of the WebSocket."""
        self.stuck = False
        """Whether it reads nothing any more as soon as it has its subscriptions."""
        self._token = token
        self._record = record
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._open = False
        self._asked: dict[int, Subscription] = {}
        self._last_id = 0
        self._failures = 0
        self._code = 1006
        self._deadline = 0.0
        self._interval = 0.0
        self._left = False
        self._address = ("", 0)

    @property
    def settled(self) -> bool:
        return bool(self.client) and all(each.live for each in self.subscriptions.values())

    # — its connection —

    async def connect(self, host: str, port: int) -> None:
        self.due = None
        self._address = host, port
        self._deadline = self._loop.time() + ANSWER
        try:
            async with asyncio.timeout(ANSWER):
                await self._loop.create_connection(lambda: self, host, port)
        except (OSError, TimeoutError):
            self._transport = None
            self._record.counts["handshakes failed"] += 1
            self._come_again()

    def leave(self) -> None:
        self._left, self.due = True, None
        if self._transport is not None:
            self._transport.abort()

    def lose(self) -> None:
        """Lose the connection without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def ping(self) -> None:
        """Ask the server for a pong of the WebSocket."""
        if self._transport is not None and self.client:
            self._transport.write(frame(b"?", 0x9))

    def look(self, now: float) -> None:
        """Give up what is overdue, and ask again for what is due."""
        if self._transport is None or self.due is not None:
            return
        overdue = any(now > each.asked_at + ANSWER for each in self._asked.values())
        if now > self._deadline or overdue:
            self._record.counts["given up: no answer" if overdue else "given up: silence"] += 1
            self._transport.abort()
        elif self.client:
            asked = set(self._asked.values())
            idle = [each for each in self.subscriptions.values() if not each.live and each not in asked]
            self._ask([each for each in idle if each.due <= now])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._buffer.clear()
        self._open, self._code = False, 1006
        self._transport.write(upgrade(*self._address))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open and not self._opened():
            return
        for kind, payload in frames(self._buffer):
            if kind == TEXT:
                self._take_all(payload)
            elif kind == CLOSE:
                self._code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005
                assert self._transport is not None
                self._transport.close()
            elif kind == PONG and self.ponged is not None:
                self.ponged()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for each in self._asked.values():
            self._ended(each)
        self._asked.clear()
        for each in self.subscriptions.values():
            self._end(each)
        if not self._open and not self._left:
            self._record.counts["handshakes failed"] += 1
        if self.client:
            self._record.counts["connections lost"] += 1
            self._failures = 0
        self.client = ""
        if terminal(self._code):
            self._record.fault(f"{self.user} was told {self._code}, never to come back")
        self._come_again()

    def _come_again(self) -> None:
        if not self._left:
            self.due = self._loop.time() + self._backoff(self._failures)
            self._failures += 1

    def _opened(self) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        assert self._transport is not None
        if b" 101 " not in head[:13]:
            self._record.counts["handshakes refused"] += 1
            self._transport.abort()
            return False
        self._buffer[:] = rest
        self._open = True
        self._send({"connect": {"token": self._token}})
        return True

    def _send(self, *commands: dict[str, Any]) -> int:
        """Send commands as one frame; answers the number of the last."""
        assert self._transport is not None
        lines = []
        for each in commands:
            self._last_id += 1
            lines.append(json.dumps({"id": self._last_id, **each}))
        self._transport.write(frame("\n".join(lines).encode()))
        return self._last_id

    def _ask(self, subscriptions: list[Subscription]) -> None:
        if not subscriptions:
            return
        last = self._send(*({"subscribe": each.request()} for each in subscriptions))
        for number, each in enumerate(subscriptions, last - len(subscriptions) + 1):
            self._asked[number] = each
            each.asked_at = self._loop.time()
            if each.room:
                self._record.members[self.client, each.channel].asked += 1

    # — what it hears —

    def _take_all(self, payload: bytes) -> None:
        if self._interval:
            self._deadline = self._loop.time() + self._interval + LATE
        for text in payload.split(b"\n"):
            if text == b"{}":
                assert self._transport is not None
                self._transport.write(frame(b"{}"))
            elif text:
                self._take(read_line(text))

    def _take(self, line: Line) -> None:
        if line.push is not None:
            self._pushed(line.push)
        elif line.connect is not None:
            self.client, self._interval = line.connect.client, float(line.connect.ping)
            self._deadline = self._loop.time() + self._interval + LATE
            self._record.counts["connected"] += 1
            self._ask(list(self.subscriptions.values()))
        elif line.id in self._asked:
            subscription = self._asked.pop(line.id)
            if line.subscribe is not None:
                self._begin(subscription, line.subscribe)
            elif line.error is not None:
                self._refused(subscription, line)
        elif line.error is not None and self._transport is not None:  # of connect
            if not line.error.temporary:
                self._record.fault(f"{self.user} may not connect: {line.error}")
            self._record.counts[f"connect: error {line.error.code}"] += 1
            self._transport.abort()

    def _pushed(self, push: Push) -> None:
        subscription = self.subscriptions[push.channel]
        if push.pub is not None:
            self._publication(subscription, push.pub)
        elif push.unsubscribe is not None:
            again = push.unsubscribe.code >= RESUBSCRIBE
            self._record.counts["lost positions" if again else "unsubscribed for good"] += 1
            if not again:
                self._record.fault(f"{self.user} was unsubscribed for good from {push.channel}")
            self._end(subscription)
            subscription.due = 0.0
            if subscription not in self._asked.values():
                self._ask([subscription])
        elif self.heard_join is not None:
            for kind, member in (("join", push.join), ("leave", push.leave)):
                if member is not None:
                    self.heard_join(kind, push.channel, member.info.client)

    def _begin(self, each: Subscription, result: Subscribed) -> None:
        each.live, each.failures = True, 0
        if each.room:
            self._record.members[self.client, each.channel].live = True
        if self.heard_start is not None:
            self.heard_start(each.channel)
        if self.stuck and self._transport is not None:
            self._transport.pause_reading()
        if each.epoch is None or not result.recovered:
            self._record.counts["told recovered:false" if each.number else "subscribed anew"] += 1
            each.told += each.epoch is not None
            each.epoch, each.offset, each.anew = result.epoch, result.offset, True
            if result.publications:
                self._record.fault(f"{self.user}: {each.channel} gave publications without recovering")
            return
        self._record.counts["recovered"] += 1
        self._record.counts["recovered publications"] += len(result.publications)
        self._record.counts["recovered under a new epoch"] += each.epoch != result.epoch
        each.epoch = result.epoch
        for publication in result.publications:
            self._publication(each, publication)
        if each.offset < result.offset:
            self._record.fault(f"{self.user}: {each.channel} lost {each.offset + 1} to {result.offset} in recovery")
            each.offset = result.offset

    def _refused(self, each: Subscription, line: Line) -> None:
        assert line.error is not None
        self._ended(each)
        self._record.counts[f"subscribe: error {line.error.code}"] += 1
        if not line.error.temporary:
            self._record.fault(f"{self.user}: {each.channel} was refused with {line.error}")
        each.due = self._loop.time() + self._backoff(each.failures)
        each.failures += 1

    def _publication(self, each: Subscription, publication: Pub) -> None:
        offset, number = publication.offset, publication.data.n
        self._record.counts["delivered"] += 1
        if not each.live or each.epoch is None:
            self._record.fault(f"{self.user}: {each.channel} gave {number} without a subscription")
            return
        if offset != each.offset + 1:
            what = "doubled or reordered" if offset <= each.offset else "lost"
            self._record.fault(f"{self.user}: {each.channel} {what}: {offset} came after {each.offset} of {each.epoch}")
        if not number:  # of a flood, whose publications have none
            each.offset = offset
            return
        if number != each.number + 1 and each.number and not self._may_follow(each, number):
            self._record.fault(f"{self.user}: {each.channel} gave number {number} after {each.number} at {offset}")
        each.offset, each.number, each.anew = offset, number, False
        self._record.hear(self.user, each.channel, each.epoch, offset, number)

    def _may_follow(self, each: Subscription, number: int) -> bool:
        """Whether it begins anew, as it was told: later, or again what stood in a stream that is lost."""
        assert each.epoch is not None
        return each.anew and (number > each.number or self._record.told_again(each.channel, number, each.epoch))

    # — ends —

    def _end(self, each: Subscription) -> None:
        if each.live:
            each.live = False
            self._ended(each)

    def _ended(self, each: Subscription) -> None:
        if each.room:
            member = self._record.members[self.client, each.channel]
            member.ended += 1
            member.live = False

    def _backoff(self, failures: int) -> float:
        return min(LONGEST, SHORTEST + self._dice.uniform(0, min(LONGEST, SHORTEST * 2.0**failures)))
