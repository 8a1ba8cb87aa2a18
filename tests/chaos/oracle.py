"""What is promised, one function each. Each gives a finding: what was measured, and the offenders, if any."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import product
from typing import NamedTuple

from tests.chaos.ground import THROUGH, Ground
from tests.chaos.named import Fault
from tests.chaos.nodes import ChaosNode
from tests.chaos.pace import pace
from tests.chaos.probe import IDLE
from tests.chaos.publishers import BOUND
from tests.chaos.record import SHOWN

LOOK = 0.25
"""Seconds between looks at what must come: each costs those who are looked at something."""
READY = 10.0
"""Seconds after the fault's end within which all nodes want connections and hear their broker."""
BACK = 30.0
"""Seconds within which all clients have all their subscriptions and have caught up: backoff, and a position check."""
ON_ITS_WAY = 5.0
"""Seconds that a publication may take from its acknowledgement to whoever is there."""
PRESENCE = 15.0
"""Seconds within which all nodes show in presence who is there, and nobody else."""
RECOVERED = 0.99
"""How many of those who come back must recover, if no data was lost."""
LAG = 0.05
"""Seconds that 99 of 100 turns of the event loop may take."""
GROWN = 1.10
"""Resident memory of all nodes together, by that of before."""
OPEN = 6
"""Descriptors more, beside those of connections: health checks come and go."""
STRAY = 3
"""Keys more of a kind, and tasks more of a name: some are there for a moment, again and again."""
SWEPT, SWEEP = 30.0, 3.0
"""Seconds within which what the dead had is swept, and seconds between looks."""


class Finding(NamedTuple):
    promise: str
    measured: str
    offenders: list[str]


class Baseline(NamedTuple):
    """What must be again as it was."""

    memory: int
    descriptors: int
    tasks: Counter[str]
    keys: Counter[str]


async def within(ready: Callable[[], Awaitable[bool]], since: float, bound: float) -> float | None:
    """Seconds from ``since`` until it was so; None if not within the bound."""
    while True:
        came = await ready()
        took = time.monotonic() - since
        if took > bound:  # also if it has come by now: a look takes its time
            return None
        if came:
            return took
        await pace(LOOK)


def _took(seconds: float | None, bound: float) -> str:
    return f"{seconds:.1f} s" if seconds is not None else f"> {bound:g} s"


# — what must come within a time after the fault's end —


async def nodes_ready(ground: Ground, end: float) -> Finding:
    async def all_ready() -> bool:
        return all(await asyncio.gather(*(node.ready() for node in ground.nodes)))

    took = await within(all_ready, end, READY)
    offenders = [] if took is not None else [node.name for node in ground.nodes if not await node.ready()]
    return Finding("nodes ready", _took(took, READY), offenders)


async def clients_back(ground: Ground, end: float, *, loses_data: bool = False) -> Finding:
    """All are connected and subscribed, every channel can be published to, and what is published arrives at all.

    After a loss of data everybody has been told so.
    """
    ground.publishers.mark()
    last: list[str] = []

    async def back() -> bool:
        last[:] = await missing(ground)
        if loses_data:
            count, names = await ground.crowd.ask("untold")
            last.extend([f"{count} were not told that nothing is recovered: {names}"] * bool(count))
        return not last

    took = await within(back, end, BACK)
    return Finding("all back", _took(took, BACK), [] if took is not None else last[:SHOWN])


async def missing(ground: Ground) -> list[str]:
    """Who is not connected, or not subscribed, or stuck: has not got what was accepted since the last mark."""
    marks = ground.publishers.marks
    for name, position in marks.items():
        if position[0] != (top := ground.publishers.tops[name])[0]:  # its stream has been lost since, and it with it
            marks[name] = top
    quiet = [name for name in ground.size.names if name not in marks]
    count, names = await ground.crowd.ask("unsettled")
    late, behind = await ground.crowd.ask("behind", marks)
    texts: list[str] = [f"{count} have not all subscriptions: {names}"] * bool(count) + behind
    if quiet:
        texts.append(f"nothing was accepted in {len(quiet)} channels: {quiet[:SHOWN]}")
    if late:
        texts.append(f"{late} subscriptions are behind")
    return texts


async def presence_exact(ground: Ground, end: float, *, lost: bool = False) -> Finding:
    """On every node, for every room, presence is who is subscribed.

    Nobody who is there was last heard to leave; nobody who has gone was last heard to join, unless that may be lost.
    """
    wrong: list[str] = []

    async def look(node: ChaosNode, room: str) -> tuple[str, str, set[str], int]:
        _, shown = await node.http.post("presence", {"channel": room}, 5.0)
        _, stats = await node.http.post("presence_stats", {"channel": room}, 5.0)
        return node.name, room, set(shown["result"]["presence"]), stats["result"]["num_clients"]

    async def exact() -> bool:
        try:
            before = await ground.crowd.ask("present")
            shown = await asyncio.gather(*(look(*each) for each in product(ground.nodes, ground.size.rooms)))
            after = await ground.crowd.ask("present")
        except (OSError, TimeoutError, KeyError, TypeError):
            wrong[:] = ["presence was not answered"]
            return False
        gone = await ground.crowd.ask("mistaken", lost)
        wrong[:] = gone + [
            f"{room} on {node}: missing {sorted(there - members)[:3]}, left over {sorted(members - there)[:3]}, "
            f"{len(there)} are counted as {count}"
            for node, room, members, count in shown
            if (there := before.get(room, set())) == after.get(room, set()) and (members, count) != (there, len(there))
        ]
        return not wrong and before == after

    took = await within(exact, end, PRESENCE)
    return Finding("presence exact", _took(took, PRESENCE), [] if took is not None else wrong[:SHOWN])


# — what must not have happened —


async def nothing_lost(ground: Ground, *, lossy: bool = False) -> Finding:
    """Nothing lost, doubled or reordered, as each client saw it and as the publishers' acknowledgements say.

    Each channel has subscribers who are told what they have missed: what none of them has heard is lost, unless the
    fault may lose data.
    """
    now, tops = time.monotonic(), dict(ground.publishers.tops)

    async def arrived() -> bool:
        late, _ = await ground.crowd.ask("behind", tops)
        return not late

    await within(arrived, now, ON_ITS_WAY)
    wrong = await ground.crowd.ask("wrong")
    mistaken, unheard = await ground.crowd.ask("check", ground.publishers.accepted(now))
    offenders = wrong + mistaken
    if unheard and not lossy:
        offenders.append(f"{unheard} that were accepted were heard by nobody")
    return Finding("lost, doubled, reordered", f"{len(offenders)} ({unheard} heard by nobody)", offenders[:SHOWN])


def told(counts: Counter[str], fault: Fault) -> Finding:
    """Without a loss of data hardly anybody is told that it did not recover."""
    false, true = counts["told recovered:false"], counts["recovered"]
    many = not (fault.loses_data or fault.may_lose_data) and true < RECOVERED * (false + true)
    offenders = [f"{false} did not recover, {true} did, though no data was lost"] if many else []
    return Finding("recovered / told false", f"{true} / {false}", offenders)


async def joins_and_leaves(ground: Ground, fault: Fault) -> Finding:
    wrong = await ground.crowd.ask("joins", fault.lapses, fault.loses_messages)
    await ground.crowd.ask("forget")
    return Finding("joins and leaves", str(len(wrong)), wrong[:SHOWN])


async def publishes_bounded(ground: Ground) -> Finding:
    """Each publish has an answer in time, or fails in time, unless its node was killed or frozen."""
    publishers = ground.publishers
    answers = ", ".join(f"{count} {kind}" for kind, count in publishers.answers.most_common())
    late = [f"{each.node}: {each.answer} after {each.took:.1f} s" for each in publishers.late]
    measured = f"{publishers.slowest:.1f} s; {answers}"
    return Finding(f"publish <= {BOUND:g} s", measured, (publishers.failed() + late)[:SHOWN])


def unnoticed(ground: Ground, counts: Counter[str], fault: Fault) -> Finding:
    """No handshake was refused, or had no answer, and each publish was accepted at the first try."""
    answers = ground.publishers.answers
    failed = {"handshakes": counts["handshakes failed"], "publishes": answers.total() - answers["accepted"]}
    offenders = [f"{count} {what} failed" for what, count in failed.items() if count and fault.seamless]
    return Finding("failed handshakes / publishes", " / ".join(map(str, failed.values())), offenders)


def starved(ground: Ground) -> dict[int, float]:
    """By process of a node, for how long it has waited for a processor."""
    return {pid: waited for node in ground.nodes for pid, waited in node.starved().items()}


async def loops_turn(ground: Ground, begin: float, before: dict[int, float], fault: Fault) -> Finding:
    """Samples of a node that was itself killed or frozen do not count. ``before`` is what was ``starved`` at first."""
    samples = await ground.probe.ask("samples")
    nodes = {node.name: node for node in ground.nodes}
    p99 = {
        name: _p99([took for at, took in some if at >= begin and not _excused(nodes.get(name), at, took)])
        for name, some in samples.items()
    }
    idle = p99.pop(IDLE, 0.0)
    offenders = [] if fault.hangs else [f"{name}: {took * 1000:.0f} ms" for name, took in p99.items() if took >= LAG]
    waited = max((now - before.get(pid, 0.0) for pid, now in starved(ground).items()), default=0.0)
    share = waited / (time.monotonic() - begin)
    measured = f"{max(p99.values(), default=0) * 1000:.0f} ms (idle {idle * 1000:.0f}, no processor {share:.0%})"
    return Finding("loop lag p99", measured, offenders)


def _excused(node: ChaosNode | None, at: float, took: float) -> bool:
    return node is not None and node.excused(at, at + took)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0


# — what must be again as before —


async def baseline(ground: Ground) -> Baseline:
    """Taken while nobody publishes, so that requests under way are not among what is counted."""
    async with ground.publishers.quiet():
        return await _baseline(ground)


async def _baseline(ground: Ground) -> Baseline:
    for node in ground.nodes:
        await node.http.close()
    tasks: Counter[str] = Counter()
    connections = 0.0
    for node in ground.nodes:
        connections += (await node.metrics())["connections"]
        if ground.stage != "workers":
            tasks.update(await node.tasks())
    memory = sum(node.memory() for node in ground.nodes)
    descriptors = sum(node.descriptors() for node in ground.nodes) - int(connections)
    return Baseline(memory, descriptors, tasks, await ground.keys())


async def nothing_leaked(ground: Ground, before: Baseline, end: float) -> list[Finding]:
    """Looked at until nothing is left over: sweeps take their time."""
    while True:
        after = await baseline(ground)
        leaks, measured = _left_over(before, after, descriptors=ground.stage not in THROUGH)
        if not leaks or time.monotonic() > end + SWEPT:
            break
        await pace(SWEEP)
    for kind, count in _more(before.keys, after.keys).items():
        leaks += await ground.names(kind) if count > STRAY else []
    grown = after.memory / before.memory
    too_much = [f"{before.memory >> 20} MiB before, {after.memory >> 20} MiB after"] if grown > GROWN else []
    return [Finding("memory", f"{grown - 1:+.1%}", too_much), Finding("left over", measured, leaks[: 2 * SHOWN])]


def _left_over(before: Baseline, after: Baseline, *, descriptors: bool) -> tuple[list[str], str]:
    """Those of connections that a balancer keeps are nobody's leak."""
    opened = after.descriptors - before.descriptors
    tasks, keys = _more(before.tasks, after.tasks), _more(before.keys, after.keys)
    leaks = [f"{opened} descriptors"] if descriptors and opened > OPEN else []
    leaks += [f"{count} tasks {name}" for name, count in tasks.items() if count > STRAY]
    leaks += [f"{count} keys of kind {name}" for name, count in keys.items() if count > STRAY]
    return leaks, f"{opened:+d} fds, {sum(tasks.values()):+d} tasks, {sum(keys.values()):+d} keys"


def _more(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before.keys() | after.keys()}


def logs_clean(ground: Ground) -> Finding:
    offenders = []
    for node in ground.nodes:
        try:
            node.check_log()
        except AssertionError as error:
            offenders.append(str(error)[-3000:])
    return Finding("tracebacks", str(len(offenders)), offenders)
