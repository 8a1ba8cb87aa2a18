"""What systemd is told, where it has started us as ``Type=notify``."""

import os
import socket
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` (sd_notify(3)); without systemd, nothing."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        return
    name = "\0" + path[1:] if path.startswith("@") else path  # "@" stands for an abstract address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), name)
