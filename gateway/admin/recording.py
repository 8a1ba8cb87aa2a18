"""The flight recorder of all nodes together: it is switched on and off, and what they have is merged by time."""

import asyncio
import logging
from functools import partial
from math import inf
from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder, encode

from gateway.admin.messages import Nothing
from gateway.core.excerpt import excerpt
from gateway.core.node import Node
from gateway.core.recorder import WATCHES, Recorder, Subject, What
from gateway.core.survey import PAGE_BYTES
from gateway.errors import Error, ErrorCode
from gateway.session.taps import Taps
from gateway.skipped import UNREADABLE, Skipped

RECORD, RECORDINGS, RECORDING = "admin.record", "admin.recordings", "admin.recording"
"""What nodes are told and asked."""

SETTLED = 1.0
"""Seconds after which events are told where there are several nodes. By then none has more of that time, be its clock a
little slow, and a reader who goes on behind the last moment that he has seen misses none."""

_FAIR = 100
"""Events that are written before others have their turn."""

Name = Annotated[str, Meta(min_length=1, max_length=512)]

log = logging.getLogger(__name__)


class RecordRequest(Struct):
    what: What
    name: Name
    seconds: Annotated[float, Meta(ge=0, le=600)] = 120


class RecordResult(Struct):
    """Until when it lasts, in Unix seconds; 0 if it has ended."""

    until: float


class Recording(Struct):
    """``dropped`` are the events that had to make room for later ones."""

    what: What
    name: str
    until: float
    events: int
    dropped: int


class RecordingsResult(Struct):
    recordings: list[Recording]
    missing: list[str]


class RecordingRequest(Struct):
    """Asks for what has come after a moment, the ``at`` of an event."""

    what: What
    name: Name
    after: float = 0


class RecordedEvent(Struct, omit_defaults=True):
    """Of a node no two have the same ``at`` (Unix seconds)."""

    at: float
    node: str
    kind: str
    text: str
    client: str = ""
    user: str = ""
    channel: str = ""
    data: str = ""


class RecordingResult(Struct):
    """In order of time. ``until`` is 0 where nothing is recorded; with ``more`` there is more behind the last event."""

    events: list[RecordedEvent]
    until: float = 0
    dropped: int = 0
    more: bool = False
    missing: list[str] = []


class _Question(Struct):
    what: What
    name: str
    after: float
    before: float | None


_decode_order = Decoder(RecordRequest).decode
_decode_question = Decoder(_Question).decode
_decode_recordings = Decoder(list[Recording]).decode
_decode_recording = Decoder(RecordingResult).decode


# — the node that asks —


async def record(node: Node, request: RecordRequest) -> RecordResult:
    """Record on all nodes for so many seconds from now on; 0 ends it."""
    subject = _subject(node, request)
    running = _decode_recordings(await node.answers[RECORDINGS](""))
    if request.seconds and len(running) >= WATCHES and subject not in [(each.what, each.name) for each in running]:
        raise Error(
            ErrorCode.LIMIT_EXCEEDED,
            f"limit exceeded: {WATCHES} recordings run already; wait until one is over, or end it with seconds 0",
        )
    await node.cluster.notify(RECORD, encode(RecordRequest(*subject, request.seconds)).decode())
    return RecordResult(node.clock() + request.seconds if request.seconds else 0)


async def recordings(node: Node, _request: Nothing) -> RecordingsResult:
    told = await node.cluster.ask(RECORDINGS, read=_decode_recordings)
    merged: dict[Subject, Recording] = {}
    for running in told.answers.values():
        for each in running:
            there = merged.setdefault(Subject(each.what, each.name), each)
            if there is not each:
                there.until = max(there.until, each.until)
                there.events += each.events
                there.dropped += each.dropped
    return RecordingsResult(list(merged.values()), told.missing)


async def recording(node: Node, request: RecordingRequest) -> RecordingResult:
    """What the nodes have, up to where the first of them has told all that goes into one answer."""
    before = node.clock() - SETTLED if len(node.cluster.nodes()) > 1 else None
    question = _Question(*_subject(node, request), request.after, before)
    told = await node.cluster.ask(RECORDING, encode(question).decode(), read=_decode_recording)
    pages: list[RecordingResult] = [*told.answers.values()]
    end = min((page.events[-1].at for page in pages if page.more), default=inf)
    events = [each for page in pages for each in page.events if each.at <= end]
    return RecordingResult(
        events=sorted(events, key=lambda each: each.at),
        until=max((page.until for page in pages), default=0),
        dropped=sum(page.dropped for page in pages),
        more=end < inf,
        missing=told.missing,
    )


def _subject(node: Node, request: RecordRequest | RecordingRequest) -> Subject:
    """What is meant. Raises ``Error`` for a name that no channel can have."""
    name = node.channels.resolve(request.name).name if request.what == "channel" else request.name
    return Subject(request.what, name)


# — every node —


def install(node: Node) -> None:
    """Have a node record when any page says so, and tell what it has."""
    recorder = Taps(node).recorder
    node.cluster.listeners[RECORD] = partial(_heed, recorder, Skipped("recording"))
    node.answers[RECORDINGS] = partial(_tell_recordings, recorder)
    node.answers[RECORDING] = partial(_tell_recording, recorder, node)


def _heed(recorder: Recorder, skipped: Skipped, argument: str) -> None:
    try:
        order = _decode_order(argument)
    except UNREADABLE as error:
        skipped.add(error)
        return
    if not recorder.start(Subject(order.what, order.name), order.seconds):
        log.warning("%s %r is not recorded on this node, which has %d recordings", order.what, order.name, WATCHES)


async def _tell_recordings(recorder: Recorder, _argument: str) -> bytes:
    watches = recorder.watches.values()
    return encode([Recording(*each.subject, each.until, len(each.events), each.dropped) for each in watches])


async def _tell_recording(recorder: Recorder, node: Node, argument: str) -> bytes:
    question = _decode_question(argument)
    watch = recorder.watches.get(Subject(question.what, question.name))
    if watch is None:
        return encode(RecordingResult([]))
    before, name = question.before or inf, node.name
    written: list[Raw] = []
    size, more = 0, False
    for event in [each for each in watch.events if question.after < each.at <= before]:
        data = event.data if isinstance(event.data, str) else excerpt(event.data)
        one = encode(RecordedEvent(event.at, name, *event[1:-1], data))
        size += len(one) + 1
        if size > PAGE_BYTES:
            more = True
            break
        written.append(Raw(one))
        if len(written) % _FAIR == 0:
            await asyncio.sleep(0)
    return encode({"events": written, "until": watch.until, "dropped": watch.dropped, "more": more})
