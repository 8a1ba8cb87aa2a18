"""What happens to a Redis that is several servers."""

from tests.chaos.ground import Ground
from tests.chaos.named import fault
from tests.chaos.pace import pace

FROZEN = 30.0
"""Seconds for which a master is frozen: long enough for another to be promoted."""
SLOTS = 200
"""Slots that move under load."""


@fault("Sentinel: failover in order", stage="sentinel", may_lose_data=True)
async def sentinel_failover(ground: Ground) -> None:
    assert ground.sentinel is not None
    await ground.blocking(ground.sentinel.failover)


@fault("Sentinel: master killed", stage="sentinel", may_lose_data=True)
async def sentinel_kill(ground: Ground) -> None:
    assert ground.sentinel is not None
    dead = await ground.blocking(ground.sentinel.kill_primary)
    await ground.blocking(dead.start)


@fault("Sentinel: master frozen (SIGSTOP) for 30 s", stage="sentinel", may_lose_data=True)
async def sentinel_freeze(ground: Ground) -> None:
    assert ground.sentinel is not None
    sentinel = ground.sentinel
    master = await ground.blocking(sentinel.master)
    master.pause()
    await pace(FROZEN)
    master.resume()
    await ground.blocking(lambda: sentinel.wait_for_another(master))


@fault("Cluster: primary killed, replica promoted", stage="cluster", may_lose_data=True)
async def cluster_kill(ground: Ground) -> None:
    assert ground.cluster is not None
    dead = await ground.blocking(ground.cluster.kill_primary)
    await ground.blocking(dead.start)


@fault("Cluster: failover in order", stage="cluster")
async def cluster_failover(ground: Ground) -> None:
    assert ground.cluster is not None
    await ground.blocking(ground.cluster.failover)


@fault("Cluster: slots of our channels migrate under load", stage="cluster")
async def cluster_migrate(ground: Ground) -> None:
    """Those with keys in them: the slots of the partitions that channels are in.

    A slot's former owner ends its subscriptions, and the next one takes them only then: what is published between is in
    the streams, but joins and leaves are not.
    """
    assert ground.cluster is not None
    cluster = ground.cluster

    def migrate() -> None:
        owner = cluster.master(cluster.slot("{p000}"))
        taken = [slot for slot in cluster.slots_of(owner) if owner.command("CLUSTER", "COUNTKEYSINSLOT", slot)]
        cluster.migrate_slots(taken[:SLOTS])
        cluster.wait_ok()

    await ground.blocking(migrate)
