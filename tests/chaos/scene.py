"""One fault, and all that is promised about it."""

import time
import traceback
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

from tests.chaos import oracle
from tests.chaos.ground import Ground
from tests.chaos.named import Fault
from tests.chaos.oracle import Finding
from tests.chaos.pace import pace
from tests.waiting import until

REST = 60.0
"""Seconds that all have to be well again before the next fault."""


class Outcome(NamedTuple):
    fault: Fault
    seconds: float
    findings: list[Finding]

    @property
    def held(self) -> bool:
        return not self.broken

    @property
    def broken(self) -> set[str]:
        """Promises that did not hold."""
        return {finding.promise for finding in self.findings if finding.offenders}


def failed(fault: Fault, what: str) -> Outcome:
    """One that could not be played, or not be judged, for the exception that is being handled."""
    return Outcome(fault, 0.0, [Finding(what, "failed", [traceback.format_exc()[-2000:]])])


async def play(ground: Ground, fault: Fault) -> Outcome:
    try:
        return await _play(ground, fault)
    except Exception:
        return failed(fault, "the suite")


async def _play(ground: Ground, fault: Fault) -> Outcome:
    await pace(ground.size.calm)
    before = await oracle.baseline(ground)
    await _forget(ground)
    begin, starved = time.monotonic(), oracle.starved(ground)
    findings = []
    try:
        await fault.strike(ground)
    except Exception:  # one that did not come about, or the suite's own; the others are played all the same
        findings.append(Finding("the fault", "failed", [traceback.format_exc()[-3000:]]))
    end = time.monotonic()
    findings += [
        await oracle.nodes_ready(ground, end),
        await oracle.clients_back(ground, end, loses_data=fault.loses_data),
        await oracle.presence_exact(ground, end, lost=fault.loses_messages),
    ]
    await _rest(ground)
    counts: Counter[str] = Counter(await ground.crowd.ask("counts"))
    findings += [
        await oracle.nothing_lost(ground, lossy=fault.loses_data or fault.may_lose_data),
        oracle.told(counts, fault),
        await oracle.joins_and_leaves(ground, fault),
        await oracle.publishes_bounded(ground),
        oracle.unnoticed(ground, counts, fault),
        await oracle.loops_turn(ground, begin, starved, fault),
        *await oracle.nothing_leaked(ground, before, end),
        oracle.logs_clean(ground),
    ]
    findings.append(Finding("counted", ", ".join(f"{count} {what}" for what, count in sorted(counts.items())), []))
    return Outcome(fault, end - begin, findings)


async def _forget(ground: Ground) -> None:
    """What was before is not the fault's."""
    ground.publishers.forget()
    await ground.probe.ask("samples")
    await ground.crowd.ask("counts")
    await ground.crowd.ask("mark")


async def _rest(ground: Ground) -> None:
    """However late; that it was late is among the findings."""
    ground.publishers.mark()

    async def settled() -> bool:
        return not await oracle.missing(ground)

    with suppress(AssertionError):
        await until(settled, REST)
