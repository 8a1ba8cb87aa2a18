"""The shards that settings describe, each in its own way."""

from gateway.config.settings import RedisSettings
from gateway.redis.address import ClusterSeeds, Place, SentinelGroup, read_addresses
from gateway.redis.cluster import Cluster
from gateway.redis.sentinel import SentinelShard
from gateway.redis.server import Server
from gateway.redis.shard import Shard


def open_shards(settings: RedisSettings, key: str = "engine.redis") -> list[Shard]:
    """One for each address, to be started. Raises ``SettingsError``."""
    return [_open(settings, place) for place in read_addresses(settings, key)]


def _open(settings: RedisSettings, place: Place) -> Shard:
    match place:
        case SentinelGroup():
            return SentinelShard(settings, place)
        case ClusterSeeds(seeds):
            return Cluster(settings, seeds)
    return Server(settings, place)
