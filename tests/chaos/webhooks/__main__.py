"""Webhooks in the long run: every fault, at random, for some minutes.

python -m tests.chaos.webhooks                     five minutes
python -m tests.chaos.webhooks --minutes 30 --seed 7 --visitors 40
python -m tests.chaos.webhooks --only kill_the_sender --only restart_redis
"""

import argparse
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.chaos.webhooks.scene import Scene


async def run(directory: Path, given: argparse.Namespace) -> bool:
    async with Scene(directory, given.seed, given.visitors, given.delay) as scene:
        faults: list[str] = []
        try:
            await scene.play(given.minutes * 60, *given.only)
            await scene.settle()
        except AssertionError as error:
            faults.append(str(error))
        print(scene.figures(), flush=True)
        faults += scene.faults()
    print("\n".join(faults[:100]) or "Everything held.")
    return not faults


def main() -> None:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.webhooks", description=about)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--visitors", type=int, default=24)
    parser.add_argument("--delay", type=float, default=1.0, help="pusher.webhooks.vacated_delay, in seconds")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"logs in {directory}", flush=True)
    sys.exit(0 if uvloop.run(run(directory, given)) else 1)


if __name__ == "__main__":
    main()
