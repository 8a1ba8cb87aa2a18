"""The line between a supervisor and a worker: what is told, and how it is written.

It is a socket pair, the worker's standard input. Down come the job, once, then orders: on whose listening sockets to
accept, which settings to go by, or to leave. Each is answered, from the event loop, by one byte, and the first byte
says that the worker is ready. So one that is silent hangs. The end of the line says that the other has died, however
it died.
"""

import pickle
import struct
import sys
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from gateway.config.settings import Settings

Order = frozenset[int] | Settings | None
"""Numbers of the workers on whose sockets to accept, and on those that all share, if any is; settings to go by from now
on; None to leave."""

ANSWER = b"+"

FORBIDDEN = b"-"
"""Comes first from a worker whose settings forbid it to start; what follows says why."""

_LENGTH = struct.Struct("!I")


class Socket(NamedTuple):
    """A listening socket by its descriptor, as `listening.Listener` has it."""

    descriptor: int
    internal: bool = False
    worker: int | None = None


class Job(NamedTuple):
    """What a worker is to serve, and on which sockets."""

    listeners: tuple[Socket, ...]
    settings: Settings
    factory: Callable[[Settings], Any]


def write_job(job: Job) -> bytes:
    # The path first, for the job itself may name modules found there.
    return write(sys.path) + write(job)


def write(value: object) -> bytes:
    data = pickle.dumps(value)
    return _LENGTH.pack(len(data)) + data


def read_job(file: IO[bytes]) -> Job:
    """Take over the supervisor's module path, and return the job. Raises `EOFError`."""
    sys.path[:] = read(file)
    job: Job = read(file)
    return job


def read(file: IO[bytes]) -> Any:
    """The next value. Raises `EOFError` at the end of the line."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(file.read(*_LENGTH.unpack(head)))  # noqa: S301  our own parent wrote it
