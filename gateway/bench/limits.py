"""How many connections one process may hold."""

import resource

from gateway.bench.plan import LoadError

SPARE = 100
"""Descriptors for everything else."""


def room() -> int:
    """Connections for which the limit of open files can be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 30 if hard == resource.RLIM_INFINITY else hard) - SPARE


def make_room(connections: int) -> None:
    """Raise the limit of open files as far as needed. Raises `LoadError` if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE
    if needed > room() + SPARE:
        raise LoadError(
            f"{connections} connections do not fit into one process: {hard} files may be open. "
            "Take more processes, or raise the limit (ulimit -n)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
