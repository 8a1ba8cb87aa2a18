"""What a receiver has been told, compared with what clients did."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.webhooks.ledger import NEVER, Ledger, Spot
from tests.chaos.webhooks.receiver import Inbox

COMES = {"channel_occupied", "member_added"}
GOES = {"channel_vacated", "member_removed"}

SOON = 2.0
"""Seconds after which somebody who has come must be known of."""
DEATH = 17.0
"""Seconds in which nobody sees that a node has died, and that one whose Redis was away tells what is true again."""
UNSURE = 2.0
"""Seconds before a node's death in which it may not yet have handed on what a client was told it has taken."""


@dataclass
class Known:
    """For how long a receiver believes that somebody is in a spot."""

    begin: float
    end: float = NEVER


def fold(inbox: Inbox) -> set[Spot]:
    """Who is there, for somebody who believes each event once."""
    there: set[Spot] = set()
    for event in inbox.events().values():
        spot = _spot(event)
        if event["name"] in COMES:
            there.add(spot)
        elif event["name"] in GOES:
            there.discard(spot)
    return there


def judge(inbox: Inbox, ledger: Ledger, *, members_only: bool, delay: float) -> list[str]:
    """All that is wrong."""
    events = inbox.events()
    known, faults = _known(events)
    faults += inbox.faults
    faults += _cut(known, delay)
    faults += _unseen(known, ledger, members_only)
    faults += _unfounded(known, ledger, delay)
    if not members_only:
        faults += _said(events, ledger)
        faults += _missed(events, ledger)
    return faults


def doubles(inbox: Inbox) -> int:
    return sum(len(each.ids) for each in inbox.deliveries) - len(inbox.events())


def needless(inbox: Inbox, ledger: Ledger) -> list[str]:
    """What came again though it had been answered in time, with no node's death or absence of Redis to explain it."""
    taken: dict[str, float] = {}
    faults = []
    for delivery in inbox.deliveries:
        for number in delivery.ids:
            before = taken.get(number)
            if before is not None and not _explained(ledger, before, delivery.at):
                faults.append(f"{number} came again after {delivery.at - before:.3f} s, though it was taken")
            if delivery.answered:
                taken[number] = delivery.at
    return faults


def _explained(ledger: Ledger, before: float, at: float) -> bool:
    """Whether the node that had been answered may not have been able to note that."""
    return ledger.away(before, at, 1.0) or any(before - 1.0 <= death <= at for _, death in ledger.killed)


def _known(events: Mapping[str, dict[str, Any]]) -> tuple[dict[Spot, list[Known]], list[str]]:
    """Each spot's times, and what is no news."""
    known: defaultdict[Spot, list[Known]] = defaultdict(list)
    faults = []
    for spot, number, event in _changes(events):
        spans, at = known[spot], int(number) / 1e6
        last = spans[-1] if spans else Known(0.0, 0.0)
        if at < (last.begin if last.end == NEVER else last.end):
            faults.append(f"{number} of {spot} came after a later one")
        if (event["name"] in COMES) == (last.end == NEVER):
            faults.append(f"{event} is no news, at {at}")
        elif event["name"] in COMES:
            spans.append(Known(at))
        else:
            last.end = at
    return known, faults


def _cut(known: Mapping[Spot, list[Known]], delay: float) -> Iterator[str]:
    """Departures of those who were back in time."""
    for spot, spans in known.items():
        for before, after in pairwise(spans):
            if after.begin < before.end + delay:
                yield f"{spot} was told to be left though somebody was back in time: {before}, {after}"


def _unseen(known: Mapping[Spot, list[Known]], ledger: Ledger, members_only: bool) -> Iterator[str]:
    """Visits of more than a moment that were not known of from then on to their end."""
    for spot, visits in ledger.visits.items():
        for visit in visits if spot.user or not members_only else ():
            begin, end = visit.acked + SOON, visit.ended - 0.5
            if begin >= end or ledger.away(begin - SOON, end, DEATH):
                continue
            if not any(each.begin <= begin and end <= each.end for each in known.get(spot, ())):
                yield f"{spot} was visited, not as told: {visit}, {known.get(spot)}"


def _unfounded(known: Mapping[Spot, list[Known]], ledger: Ledger, delay: float) -> Iterator[str]:
    """What was told to begin where nobody had come, or to end long after all had left."""
    for spot, each in ((spot, each) for spot, spans in known.items() for each in spans):
        visits = ledger.visits[spot]
        begun = any(visit.begun - 0.5 <= each.begin <= visit.ended + SOON for visit in visits)
        if not begun and not ledger.away(each.begin, each.begin, DEATH):
            yield f"{spot} was told of, and nobody had come: {each}"
        last = (each.begin if ledger.away(each.begin, each.end, DEATH) else each.end - delay) - DEATH
        if each.end < NEVER and all(visit.ended < last for visit in visits):
            yield f"{spot} was left long before that was told: {each}"


def _changes(events: Mapping[str, dict[str, Any]]) -> Iterator[tuple[Spot, str, dict[str, Any]]]:
    for number, event in events.items():
        if event["name"] in COMES | GOES:
            yield _spot(event), number, event


def _said(events: Mapping[str, dict[str, Any]], ledger: Ledger) -> list[str]:
    """Client events: each once, all that were taken."""
    told = Counter(event["data"] for event in events.values() if event["name"] == "client_event")
    faults = [f"{text!r} is told {number} times" for text, number in told.items() if number > 1]
    faults += [f"{text!r} was never said" for text in told if text not in ledger.said]
    for text, said in ledger.said.items():
        unsure = ledger.died(said.node, said.sent, said.taken + UNSURE) or ledger.away(said.sent, said.taken, 1.0)
        if said.taken < NEVER and not unsure and text not in told:
            faults.append(f"{text!r} is not told: {said}")
    return faults


def _missed(events: Mapping[str, dict[str, Any]], ledger: Ledger) -> list[str]:
    """Misses: each channel's once, unless whoever had seen it could not say so any more."""
    told = Counter(event["channel"] for event in events.values() if event["name"] == "cache_miss")
    faults = [f"the miss of {channel} is told {number} times" for channel, number in told.items() if number > 1]
    for channel, seen in ledger.misses.items():
        sure = any(not (ledger.died(node, at, at + UNSURE) or ledger.away(at, at, 1.0)) for at, node in seen)
        if sure and channel not in told:
            faults.append(f"the miss of {channel} is not told: {seen}")
    return faults


def _spot(event: Mapping[str, Any]) -> Spot:
    return Spot(event["channel"], event.get("user_id", ""))
