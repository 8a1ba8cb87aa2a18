"""Telling operators when processes of one application do not share what they must."""

import logging
import sys
from multiprocessing import parent_process
from types import FrameType
from typing import Any

from gateway.core.node import Node

log = logging.getLogger("gateway")

COMING = 60.0
"""Seconds that the other workers of a server have to be heard of."""

MEMORY = (
    "this process is one of %d workers, and an engine in memory does not join them: clients of one do not hear what is "
    "published on another, nor see who is there; set GATEWAY_REDIS_URL, for example redis://127.0.0.1:6379, "
    "or run one worker"
)
UNHEARD = "this process is one of %d workers, and has heard of no other: give all of them the same %s"

_SAME = {
    "redis": "engine.redis.address and engine.redis.prefix",
    "postgres": "engine.postgres.dsn and engine.postgres.table_prefix",
    "broadcaster": "engine.broadcaster.url and engine.broadcaster.name",
}


def check_sharing(node: Node) -> None:
    """Warn in the log, and in ``/health/ready``, of others that this node should know and does not.

    To be called in the lifespan, when the node runs.
    """
    workers = count_workers()
    engine = node.settings.engine
    if engine.is_local:
        if workers > 1:
            _warn(node, MEMORY, workers)
        return
    if workers > 1:
        node.wheel.after(COMING, lambda: _look_for_others(node, workers))


def count_workers() -> int:
    """How many processes the server that runs this lifespan has been told to run; 1 where nothing says so.

    ASGI has no word for it, but the server is on the stack, below the event loop: gunicorn's arbiter in each worker
    that is forked from it, uvicorn and hypercorn with the options that they give to theirs.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        match frame.f_globals.get("__name__"), frame.f_code.co_name:
            case "gunicorn.arbiter", _:
                return _number(frame.f_locals.get("self"), "num_workers")
            case "uvicorn.server", "run":
                config = getattr(frame.f_locals.get("self"), "config", None)
                reloads = getattr(config, "should_reload", False)  # then one process runs, whatever the number
                return 1 if reloads or parent_process() is None else _number(config, "workers")
            case "hypercorn.asyncio.run", "asyncio_worker" | "uvloop_worker":
                return _number(frame.f_locals.get("config"), "workers")
        frame = frame.f_back
    return 1


def _number(owner: Any, name: str) -> int:
    found = getattr(owner, name, 1)
    return found if isinstance(found, int) else 1


def _look_for_others(node: Node, workers: int) -> None:
    if node.broker.health().ok and len(node.cluster.nodes()) == 1:
        _warn(node, UNHEARD, workers, _SAME[node.settings.engine.type])


def _warn(node: Node, text: str, *values: object) -> None:
    log.warning(text, *values)
    node.warnings.append(text % values)
