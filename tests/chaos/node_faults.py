"""What happens to nodes."""

import signal

from tests.chaos.ground import Ground
from tests.chaos.named import fault
from tests.chaos.pace import pace
from tests.waiting import until

FOUND = 4.0
"""Seconds in which a balancer finds a node that is ready."""


@fault("kill -9 of a node", loses_messages=False, brief=True)
async def kill_node(ground: Ground) -> None:
    node = await ground.busiest()
    node.kill()
    await pace(2)
    await node.come()


@fault("SIGTERM rollout of all nodes, one by one", loses_messages=False)
async def roll_out(ground: Ground) -> None:
    for node in ground.nodes:
        await node.drain()
        await node.come()


@fault("node frozen (SIGSTOP) for 60 s", lapses=True)
async def freeze_node(ground: Ground) -> None:
    node = await ground.busiest()
    node.stop()
    await pace(60)
    node.cont()


@fault("clock of a node an hour ahead, then an hour behind", stage="clock", loses_messages=False)
async def jump_clock(ground: Ground) -> None:
    assert ground.clock is not None
    for hour in (3600, -3600):
        ground.clock.jump(hour)
        await pace(20)
    ground.clock.jump(0)
    await pace(2)  # it reads the file once a second


@fault("SIGHUP of --workers", stage="workers", loses_messages=False)
async def hang_up(ground: Ground) -> None:
    (supervisor,) = ground.nodes
    before = set(supervisor.pids())
    supervisor.signal(signal.SIGHUP)

    def replaced() -> bool:
        assert supervisor.alive, "SIGHUP has ended it"
        return not before & set(supervisor.pids()) and len(supervisor.pids()) == len(before)

    await until(replaced, 300.0, "all workers are replaced")


async def deploy(ground: Ground) -> None:
    """As ``deploy/roll --in-place`` does it: each ends, comes again, and has time to be found, before the next."""
    for node in ground.nodes:
        await node.drain()
        await node.come()
        await pace(FOUND)


for stage, name in (("haproxy", "HAProxy"), ("nginx", "nginx"), ("caddy", "Caddy")):
    fault(f"rolling deploy behind {name}", stage=stage, loses_messages=False, seamless=True)(deploy)
