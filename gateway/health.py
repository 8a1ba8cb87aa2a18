"""How the servers are on which the gateway relies, and what else of a node lasts that should not."""

from msgspec import Struct


class ServerHealth(Struct, frozen=True):
    """Names and words without a secret.

    ``shard`` is the number of its address in the settings, ``server`` its name there or in its cluster. ``lag`` is the
    last measured time from publish to arrival, in seconds. ``refusal`` is the kind of what it refuses and will until an
    operator has seen to it, ``problem`` what it says itself, or why there is no connection; ``remedy`` what to do.
    ``keys`` are those of the database, ``memory`` and ``max_memory`` the server's bytes (0 is without limit); -1 is not
    told.
    """

    server: str
    shard: str = "0"
    connected: bool = True
    deaf: bool = False
    lag: float = 0.0
    reconnects: int = 0
    refusal: str = ""
    problem: str = ""
    remedy: str = ""
    keys: int = -1
    memory: int = -1
    max_memory: int = -1

    @property
    def ok(self) -> bool:
        return self.connected and not self.deaf and not self.refusal


class Condition(Struct, frozen=True):
    """Something about a node that lasts and is not as it should be.

    ``reason`` is a word for programs, ``detail`` a sentence for people. A ``status`` other than ``degraded`` says that
    the node wants no new connections meanwhile.
    """

    reason: str
    detail: str
    status: str = "degraded"
