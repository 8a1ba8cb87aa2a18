"""The outcomes as Markdown: a table, what did not hold, and what was counted."""

import platform
import time
from collections.abc import Sequence

from tests.chaos.scene import Outcome
from tests.chaos.size import Size

COLUMNS = (
    "nodes ready",
    "all back",
    "presence exact",
    "lost, doubled, reordered",
    "recovered / told false",
    "joins and leaves",
    "publish <= 5 s",
    "failed handshakes / publishes",
    "loop lag p99",
    "memory",
    "left over",
    "tracebacks",
)


def markdown(outcomes: Sequence[Outcome], size: Size) -> str:
    """The whole report. What did not hold is bold in the table, and told of below it."""
    return "\n".join([*_head(size), *_table(outcomes), "", *_broken(outcomes), "", *_counted(outcomes), ""])


def short(outcome: Outcome) -> str:
    """An outcome in short, for who waits."""
    broken = [finding.promise for finding in outcome.findings if finding.offenders]
    lines = [f"{'held' if outcome.held else 'BROKEN'}  {outcome.fault.name}  {', '.join(broken)}"]
    for finding in outcome.findings:
        lines += [f"    {finding.promise}: {text[-300:]}" for text in finding.offenders[:3]]
    return "\n".join(lines)


def _head(size: Size) -> list[str]:
    when = time.strftime("%Y-%m-%d")
    load = f"{size.clients:,} clients, {size.channels} channels, {size.rate:g} publications a second"
    return [f"{load}; Python {platform.python_version()}, {platform.machine()}, {when}.", ""]


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    rows = [["fault", "for", *COLUMNS]]
    for outcome in outcomes:
        cells = {
            finding.promise: f"**{finding.measured}**" if finding.offenders else finding.measured
            for finding in outcome.findings
        }
        for promise in ("publish <= 5 s",):
            cells[promise] = cells.get(promise, "").split(";")[0] + ("**" if cells.get(promise, "")[:2] == "**" else "")
        rows.append([outcome.fault.name, f"{outcome.seconds:.0f} s", *(cells.get(name, "") for name in COLUMNS)])
    rows.insert(1, ["---"] * len(rows[0]))
    return [f"| {' | '.join(row)} |" for row in rows]


def _broken(outcomes: Sequence[Outcome]) -> list[str]:
    lines = []
    for outcome in outcomes:
        for finding in outcome.findings:
            if finding.offenders:
                lines += [f"### {outcome.fault.name}: {finding.promise}, {finding.measured}", ""]
                lines += [*("    " + text.replace("\n", "\n    ") for text in finding.offenders), ""]
    return lines or ["Everything held."]


def _counted(outcomes: Sequence[Outcome]) -> list[str]:
    told = [
        f"- {outcome.fault.name}: {finding.measured}"
        for outcome in outcomes
        for finding in outcome.findings
        if finding.promise in ("counted", "publish <= 5 s")
    ]
    return ["Counted:", "", *told]
