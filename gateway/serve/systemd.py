"""What systemd gives and is told: sockets that it has opened; states, where it has started us as ``Type=notify``."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

from gateway.serve.errors import ServeError

VARIABLE = "NOTIFY_SOCKET"

_FIRST = 3
"""Number of the first descriptor passed (sd_listen_fds(3))."""


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` (sd_notify(3)); without systemd, nothing."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        return
    name = "\0" + path[1:] if path.startswith("@") else path  # "@" stands for an abstract address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), name)


def passed_sockets() -> Iterator[tuple[socket.socket, str]]:
    """The listening sockets that are passed to this process, with their names; once. Raises `ServeError`."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return  # none, or meant for the one that has started us
    count = os.environ.get("LISTEN_FDS", "")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    for index in range(int(count) if count.isdigit() else 0):
        number = _FIRST + index
        os.set_inheritable(number, False)
        try:
            sock = socket.socket(fileno=number)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or sock.type != socket.SOCK_STREAM:
            raise ServeError(
                f"descriptor {number}, which systemd passes, is no listening stream socket: in its .socket unit, write "
                "ListenStream= and leave Accept=no"
            )
        yield sock, names[index] if index < len(names) else ""


class Watchdog:
    """Tells systemd that this process moves, if it wants to hear it (``WatchdogSec=``, sd_watchdog_enabled(3))."""

    def __init__(self) -> None:
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = os.environ.get("WATCHDOG_USEC", "")
        self._every = int(wanted) / 2e6 if ours and wanted.isdigit() else 0.0
        """Seconds: half of the time after which we would be killed."""
        self._next = 0.0

    def beat(self, now: float) -> None:
        """Call it from the event loop, often; ``now`` is the loop's clock."""
        if self._every and now >= self._next:
            self._next = now + self._every
            notify("WATCHDOG=1")
