"""The fence: what a live source publishes is accepted only while its node holds the channel's lease.

It is a script of its own before each that publishes, with the lease's key as its last and the fence as its first
argument.
"""

from gateway.brokers.calls import LINEAGE, LUA, PUBLISH, PUBLISH_ONCE, Call
from gateway.redis.keys import Keys
from gateway.redis.script import Script

_FENCE = LUA / "fence.lua"
_SCRIPTS: dict[Script | None, Script] = {
    None: Script(_FENCE, LUA / "send.lua"),
    PUBLISH: Script(_FENCE, *LINEAGE, LUA / "publish.lua", identified=True),
    PUBLISH_ONCE: Script(_FENCE, LUA / "publish_once.lua"),
}
FENCED_SCRIPTS = tuple(_SCRIPTS.values())


def behind_fence(keys: Keys, channel: str, call: Call, fence: str) -> Call:
    """The same publish, answered with None where the channel's lease holds anything but ``fence``."""
    return Call(_SCRIPTS[call.script], [*call.keys, keys.of(b"l", channel)], [fence, *call.args])
