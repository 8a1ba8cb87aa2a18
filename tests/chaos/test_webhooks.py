"""The short run of ``python -m tests.chaos.webhooks``: a node dies, one rolls, and the receiver is not at its best."""

import random
from pathlib import Path

from tests.chaos.webhooks.scene import Scene

SECONDS = 8.0


async def test_webhooks_are_true_though_nodes_die_and_roll(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1, 10**6)
    async with Scene(tmp_path, seed, visitors=16) as scene:
        await scene.play(SECONDS, "kill", "roll", "kill_the_sender")
        await scene.settle()
        print(seed, scene.figures())
        faults = scene.faults()
        assert not faults, "\n".join([f"seed {seed}, logs in {tmp_path}", scene.figures(), *faults[:50]])
