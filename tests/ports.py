"""Ports of the loopback for the servers of tests: none of those that the kernel lends to who connects."""

import itertools
import os
import random
import socket

_FIRST, _LAST = 10_000, 32_768
"""From the last on Linux lends them (``ip_local_port_range``): one that is free is lent before a server has it."""

_MOST_WORKERS = 4

_share = (_LAST - _FIRST) // _MOST_WORKERS
_mine = _FIRST + _share * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _MOST_WORKERS)
_next = itertools.count(random.randrange(_share))


def free_port() -> int:
    """One that nobody listens on just now, and no other worker of this run is given."""
    for number in _next:
        port = _mine + number % _share
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError
