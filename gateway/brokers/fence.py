"""The fence: what a live source publishes is accepted only while its node holds the channel's lease."""

from hashlib import sha1

from gateway.brokers.calls import LUA, PUBLISH, PUBLISH_ONCE, Call
from gateway.redis.keys import Keys
from gateway.redis.script import Script


class _BehindFence(Script):
    """A script that does nothing unless a lease is held. It takes the lease's key and the fence as its last."""

    def __init__(self, script: Script) -> None:
        self.text = (LUA / "fence.lua").read_bytes() + script.text
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()


_SEND = _BehindFence(Script(LUA / "send.lua"))
_SCRIPTS: dict[Script | None, Script] = {
    None: _SEND,
    PUBLISH: _BehindFence(PUBLISH),
    PUBLISH_ONCE: _BehindFence(PUBLISH_ONCE),
}
FENCED_SCRIPTS = tuple(_SCRIPTS.values())


def behind_fence(keys: Keys, channel: str, call: Call, fence: str) -> Call:
    """The same publish, answered with None where the channel's lease holds anything but ``fence``."""
    return Call(_SCRIPTS[call.script], [*call.keys, keys.of(b"l", channel)], [*call.args, fence])
