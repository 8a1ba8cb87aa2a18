"""Sentinel and Cluster of the tests: they form, and do what is done to them, with passwords, too."""

from tests.redis_topologies import ClusterTopology, SentinelTopology
from tests.waiting import until_blocking


def test_sentinels_fail_over_in_order_and_when_the_master_is_killed() -> None:
    with SentinelTopology(password="data", sentinel_password="watch") as sentinel:
        first = sentinel.master()
        assert len(sentinel.replicas()) == 2
        with sentinel.client() as client:
            client.set("kept", "yes")
        second = sentinel.failover()
        assert second is not first
        until_blocking(sentinel.complete, 60, "the old master follows")
        assert sentinel.kill_primary() is second
        with sentinel.client() as client:
            assert client.get("kept") == b"yes"
        second.start()
        until_blocking(sentinel.complete, 60, "the dead one follows")


def test_a_cluster_promotes_and_migrates() -> None:
    with ClusterTopology(password="data") as cluster:
        assert len(cluster.primaries()) == 3
        first = cluster.master()
        with cluster.client() as client:
            client.set("kept", "yes")
        slot = cluster.slot("kept")
        other = next(each for each in cluster.primaries() if each is not cluster.master(slot))
        cluster.migrate_slots([slot], other)
        cluster.wait_ok()
        assert cluster.master(slot) is other
        assert slot in cluster.slots_of(other)
        assert cluster.kill_primary(0) is first
        assert cluster.master(0) is not first
        first.start()
        until_blocking(lambda: first in cluster.replicas(0), 60, "the dead one follows")
        assert cluster.failover(0) is first
        with cluster.client() as client:
            assert client.get("kept") == b"yes"
