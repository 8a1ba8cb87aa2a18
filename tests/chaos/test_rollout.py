"""A rolling deploy that nobody notices, behind HAProxy. Behind nginx and Caddy, too, with ``CHAOS_SECONDS`` above 30.

``python -m tests.chaos --stages haproxy,nginx,caddy`` plays them all.
"""

import os
import random
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.__main__ import run
from tests.chaos.named import Fault, load_all
from tests.chaos.size import Size
from tests.chaos.test_faults import SHOWN_ONLY

LONG = float(os.environ.get("CHAOS_SECONDS", "0")) > 30

SIZE = Size(clients=300, channels=50, rate=150.0, calm=1.0)


@pytest.mark.parametrize(
    "fault",
    [each for each in load_all() if each.seamless and (LONG or each.stage == "haproxy")],
    ids=lambda each: each.stage,
)
async def test_no_handshake_and_no_publish_fails(fault: Fault, tmp_path: Path) -> None:
    outcomes = await run([fault], SIZE, tmp_path, random.SystemRandom().randrange(1, 10**6))
    text = report.markdown(outcomes, SIZE)
    print(text)
    assert outcomes[0].broken <= SHOWN_ONLY, text
