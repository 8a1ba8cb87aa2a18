"""Reading streams that Redis keeps: what is asked of them in one turn of the event loop leaves in few scripts."""

import asyncio
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from gateway.brokers import envelope
from gateway.brokers.base import Continued, HistoryFilter, StreamOptions
from gateway.brokers.calls import LINEAGE, LUA
from gateway.brokers.single_flight import Flights, Question
from gateway.errors import BrokerUnavailable
from gateway.messages import Position, Publication
from gateway.redis.resp import UNDONE, Argument, CommandRefused, milliseconds
from gateway.redis.script import Script
from gateway.redis.shard import Shard

_TOPS = Script(*LINEAGE, LUA / "top.lua", LUA / "tops.lua", identified=True)
_HISTORY = Script(*LINEAGE, LUA / "top.lua", LUA / "history.lua", identified=True)
SCRIPTS = (_TOPS, _HISTORY)

CHANNELS_PER_CALL = 128
"""Channels that one script reads: a millisecond of Redis, for which everybody else waits."""

READS_APART = 0.02
"""Seconds between two reads of one part of a stream while ever more ask for it, as when thousands subscribe."""

Read = tuple[str, HistoryFilter, StreamOptions]
Part = tuple[list[Publication], Position]


class RedisHistory:
    """Asks a ``Shard``. What cannot be read of one channel is nothing to the others that are asked with it."""

    def __init__(self, shard: Shard, reader: envelope.Reader) -> None:
        self.reads: Flights[Read, Part] = Flights(self._put, READS_APART, lambda part: (part[0].copy(), part[1]))
        self._shard = shard
        self._keys = shard.keys
        self._reader = reader
        self._together = CHANNELS_PER_CALL if shard.spans else 1

    def _put(self, questions: list[Question[Read, Part]]) -> None:
        alike: dict[tuple[int, bool, StreamOptions], list[Question[Read, Part]]] = {}
        for question in questions:
            _, which, stream = question.key
            kind = which.limit, which.reverse and which.limit != 0, stream
            alike.setdefault(kind, []).append(question)
        for those in alike.values():
            for start in range(0, len(those), self._together):
                self._ask(those[start : start + self._together])

    def _ask(self, questions: Sequence[Question[Read, Part]]) -> None:
        """Ask what may go together, or what is left of it."""
        _, which, stream = questions[0].key
        args: list[Argument] = [
            milliseconds(stream.history_meta_ttl),
            milliseconds(stream.unpublished_ttl),
            _new_epochs(len(questions)),
        ]
        keys: list[Argument]
        if which.limit == 0:
            keys = [self._keys.of(b"m", question.key[0]) for question in questions]
            answer = self._shard.run(_TOPS, keys, args)
        else:
            keys = [key for question in questions for key in self._keys.stream(question.key[0])]
            args += (max(which.limit, -1), int(which.reverse), int(stream.history_size == 1))
            args += [_since(question.key[1]) for question in questions]
            answer = self._shard.run(_HISTORY, keys, args)
        answer.add_done_callback(partial(self._hand_out, questions, 3 if which.limit == 0 else 4))

    def _hand_out(
        self, questions: Sequence[Question[Read, Part]], width: int, answer: asyncio.Future[list[Any]]
    ) -> None:
        """Give each its part of an answer, which has so many values for each."""
        error = BrokerUnavailable() if answer.cancelled() else answer.exception()
        if error is not None:
            self._refuse(questions, error)
            return
        rows = list(zip(*[iter(answer.result())] * width, strict=True))
        failed = []
        for question, row in zip(questions, rows, strict=False):
            if type(row[0]) is ReplyError:
                failed.append(question)
                continue
            try:
                part = self._part(*row)
            except Exception as unreadable:
                self.reads.refuse(question, unreadable)
            else:
                self.reads.tell(question, part)
        if len(rows) < len(questions):
            self._ask(questions[len(rows) :])
        if failed:
            self._ask(failed)  # by themselves, so that the refusal is seen: they were fewer than all

    def _refuse(self, questions: Sequence[Question[Read, Part]], error: BaseException) -> None:
        if len(questions) > 1 and isinstance(error, CommandRefused):
            if error.redis_code == "CROSSSLOT":  # what looks like one server stands before many
                self._together = 1
            if self._together == 1 or error.redis_code not in UNDONE:  # it may be about one channel's keys
                for question in questions:
                    self._ask([question])
                return
        for question in questions:
            self.reads.refuse(question, error)

    def _part(
        self, epoch: bytes, offset: bytes | None, former: bytes | None, entries: Sequence[Any] | None = None
    ) -> Part:
        publications = []
        for entry, fields in entries or ():
            publication = self._reader.stored(fields[1], int(entry.partition(b"-")[0]))
            if publication is not None:
                publications.append(publication)
        return publications, read_top(int(offset or 0), epoch.decode(), former)


def read_top(offset: int, epoch: str, former: bytes | None) -> Position:
    """Where a stream stands, as scripts tell it."""
    if not former:
        return Position(offset, epoch)
    links = (link.rsplit(":", 1) for link in former.decode().split(","))
    return Continued(offset, epoch, tuple(Position(int(end), name) for name, end in links))


def _since(which: HistoryFilter) -> Argument:
    return "" if which.since is None else which.since.offset


def _new_epochs(count: int) -> str:
    """As many as ``new_epoch`` would make, in one."""
    return f"{random.getrandbits(32 * count):0{8 * count}x}"
