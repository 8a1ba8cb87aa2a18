"""Three nodes on a Redis that comes and goes, and everything that they promise meanwhile and afterwards.

``CHAOS_SECONDS`` says for how long there are faults, ``CHAOS_SEED`` repeats the choices of a run; its timing is never
the same, so that a seed is a place to begin.
"""

import os
import random
from pathlib import Path

from tests.chaos.stage import SECONDS, Stage

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


async def test_what_is_promised_holds_through_faults(tmp_path: Path) -> None:
    async with Stage(tmp_path, random.Random(SEED)) as stage:
        await stage.play()
        await stage.come_to_rest()
        await stage.empty()
    report = [f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}", str(dict(stage.model.counts))]
    print(*report)
    report.append(f"logs in {tmp_path}")
    assert not stage.model.faults, "\n".join([*report, *stage.model.faults[:50]])
