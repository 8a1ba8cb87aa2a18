"""Half of the load for a long time, with constant churn: memory, descriptors and keys must not grow."""

import time
from pathlib import Path
from typing import NamedTuple

from tests.chaos import oracle
from tests.chaos.ground import Ground
from tests.chaos.pace import pace
from tests.chaos.size import Size

CHURN = 0.01
"""Part of the clients that lose their connections each second."""
LOOK = 10.0
"""Seconds between looks."""
WARM = 1 / 3
"""Part of the time that counts as warming up."""
SLOPE = 0.01
"""Part by which memory may grow in ten minutes."""


class Sample(NamedTuple):
    at: float
    memory: float
    """Of all nodes, MiB."""
    descriptors: float
    """Beside those of connections."""
    tasks: float
    keys: float


async def run(size: Size, directory: Path, minutes: float, seed: int) -> tuple[str, bool]:
    """The report, and whether all held."""
    half = Size(size.clients // 2, size.channels, size.rate / 2)
    samples: list[Sample] = []
    async with Ground("server", half, directory, seed) as ground:
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < minutes * 60:
            samples.append(await _sample(ground, now))
            print(" ".join(f"{name}={value:.0f}" for name, value in samples[-1]._asdict().items()), flush=True)
            while time.monotonic() - begin < now + LOOK:
                await ground.crowd.ask("churn", max(1, round(half.clients * CHURN)))
                await pace(1.0)
        end = time.monotonic()
        findings = [
            await oracle.nodes_ready(ground, end),
            await oracle.clients_back(ground, end),
            await oracle.presence_exact(ground, end),
            await oracle.nothing_lost(ground),
            await oracle.publishes_bounded(ground),
            oracle.logs_clean(ground),
        ]
    return _report(half, minutes, samples, findings)


async def _sample(ground: Ground, at: float) -> Sample:
    found = await oracle.baseline(ground)
    return Sample(at, found.memory / 2**20, found.descriptors, found.tasks.total(), found.keys.total())


def _report(size: Size, minutes: float, samples: list[Sample], findings: list[oracle.Finding]) -> tuple[str, bool]:
    warm = [each for each in samples if each.at >= minutes * 60 * WARM]
    memory = _growth(warm, "memory")
    lines = [
        f"{minutes:g} minutes, {size.clients:,} clients, {size.rate:g} publications a second, "
        f"{size.clients * CHURN:.0f} connections lost a second.",
        "",
        "| | at the warm start | at the end | in ten minutes | must be |",
        "|---|---|---|---|---|",
    ]
    held = memory < SLOPE and not any(finding.offenders for finding in findings)
    for name, bound in (("memory", f"< {SLOPE:.0%}"), ("descriptors", "flat"), ("tasks", "flat"), ("keys", "flat")):
        first, last, growth = getattr(warm[0], name), getattr(warm[-1], name), _growth(warm, name)
        lines.append(f"| {name} | {first:.0f} | {last:.0f} | {growth:+.1%} | {bound} |")
        if name != "memory":
            held &= last - first <= oracle.STRAY
    lines += [f"| {finding.promise} | | {finding.measured} | | |" for finding in findings]
    lines += [text for finding in findings for text in finding.offenders]
    return "\n".join([*lines, ""]), held


def _growth(samples: list[Sample], name: str) -> float:
    """The part by which it grows in ten minutes, by the line that fits best."""
    times, values = [each.at for each in samples], [float(getattr(each, name)) for each in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True)) / spread
    return slope * 600 / mean
