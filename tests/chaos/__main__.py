"""The chaos suite: named faults, one after the other, under load, and everything that is promised about each.

    python -m tests.chaos                              the whole: 3,000 clients, every fault, about half an hour
    python -m tests.chaos --rounds 3                   each fault three times
    python -m tests.chaos --stages server,line         some grounds only
    python -m tests.chaos --only kill --only FLUSHALL  faults whose names hold these words
    CHAOS_SCALE=0.1 python -m tests.chaos              with a tenth of the load
    python -m tests.chaos soak --minutes 30            no fault but constant churn: does anything grow?

The report, Markdown, goes to ``--output``; logs of all processes stay in a new directory under ``--directory``. Needs
redis-server, HAProxy, libfaketime, and root for the network namespace; loads nothing but loopback.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos import report, soak
from tests.chaos.ground import Ground
from tests.chaos.named import STAGES, Fault, load_all
from tests.chaos.scene import Outcome, failed, play
from tests.chaos.size import Size

LASTING = {"the suite", "the fault", "nodes ready", "all back", "presence exact"}
"""Promises without which nothing that comes after is worth much."""


async def run(faults: list[Fault], size: Size, directory: Path, seed: int) -> list[Outcome]:
    """Play them all. After one from which not all came back the ground is new, lest the next one suffer for it."""
    outcomes: list[Outcome] = []
    left = list(faults)
    grounds = 0
    while left:
        stage, grounds = left[0].stage, grounds + 1
        print(f"— {stage}: all come —", flush=True)
        try:
            async with Ground(stage, size, directory / f"{grounds}-{stage}", seed + grounds) as ground:
                while left and left[0].stage == stage:
                    outcomes.append(await play(ground, left.pop(0)))
                    print(report.short(outcomes[-1]), flush=True)
                    if outcomes[-1].broken & LASTING:
                        break
        except Exception:  # a ground that cannot be built, or not be left: its faults cannot be played
            while left and left[0].stage == stage:
                outcomes.append(failed(left.pop(0), "the ground"))
                print(report.short(outcomes[-1]), flush=True)
    return outcomes


def chosen(stages: list[str], words: list[str], rounds: int) -> list[Fault]:
    some = [each for each in load_all() if each.stage in stages]
    if words:
        some = [each for each in some if any(word.lower() in each.name.lower() for word in words)]
    return [each for each in some for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=["faults", "soak"], default="faults")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {','.join(STAGES)}")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=given.directory))
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # clear up in the same way
    size = Size.whole()
    print(f"logs in {directory}", flush=True)
    if given.what == "soak":
        text, held = uvloop.run(soak.run(size, directory, given.minutes, given.seed))
    else:
        faults = chosen(given.stages.split(","), given.only, given.rounds)
        if not faults:
            parser.error(f"no such fault; there are: {'; '.join(each.name for each in load_all())}")
        outcomes = uvloop.run(run(faults, size, directory, given.seed))
        text, held = report.markdown(outcomes, size), all(each.held for each in outcomes)
    print(text)
    if given.output:
        given.output.write_text(text)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
