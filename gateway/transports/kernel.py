"""What the kernel tells of a socket."""

import socket
import struct
from contextlib import suppress

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover  # Windows has neither
    KNOWN = False
else:
    KNOWN = True

USER_TIMEOUT: int = getattr(socket, "TCP_USER_TIMEOUT", 0)
"""The option's number, where there is one."""

_NOTHING = struct.pack("i", 0)


def unacknowledged(sock: socket.socket | None) -> int:
    """Bytes that were written and that the peer has not acknowledged; 0 where the kernel does not tell.

    It takes megabytes at once and then nothing for a long time, so that what waits in the process says little of a
    slow peer's progress.
    """
    if sock is None or not KNOWN:
        return 0
    try:
        [count] = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, _NOTHING))
    except (OSError, ValueError):  # it is closed, or not of a kind that has such a queue
        return 0
    return int(count)


def lift_user_timeout(sock: socket.socket | None) -> None:
    """Have the kernel give up no peer that acknowledges something.

    TCP_USER_TIMEOUT is meant for those that acknowledge nothing. But where the peer's window is small the kernel counts
    from when it was first too small for what comes next, and resets who reads slowly and all the time.
    """
    if sock is None or not USER_TIMEOUT:
        return
    with suppress(OSError):  # not TCP, or gone
        sock.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, 0)
