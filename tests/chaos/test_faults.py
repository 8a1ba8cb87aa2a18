"""The short run: some of the named faults, with a tenth of the clients. ``python -m tests.chaos`` is the whole.

What depends on how busy the machine is, the delay of event loops and memory, is shown here and judged there.
"""

import random
from pathlib import Path

from tests.chaos import report
from tests.chaos.__main__ import run
from tests.chaos.named import load_all
from tests.chaos.size import Size

SHOWN_ONLY = {"loop lag p99", "memory"}
SIZE = Size(clients=300, channels=40, rate=60.0, calm=1.0)


async def test_what_is_promised_holds_after_named_faults(tmp_path: Path) -> None:
    faults = [each for each in load_all() if each.brief]
    assert len(faults) >= 5
    outcomes = await run(faults, SIZE, tmp_path, random.SystemRandom().randrange(1, 10**6))
    text = report.markdown(outcomes, SIZE)
    print(text)
    assert set().union(*(each.broken for each in outcomes)) <= SHOWN_ONLY, text
