"""A Unix socket that listens: its file, and who may use it."""

import os
import socket
import stat
from contextlib import suppress

from gateway.serve.errors import ServeError


class UnixSocket:
    """A socket bound to a path, with the mode of its file. What a dead process has left there is replaced.

    Raises `ServeError`: if a living one listens there, or something else has the name.
    """

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        try:
            _clear(path)
            self.sock = _bind(path, mode)
            self._made = _identity(path)
        except OSError as error:
            raise ServeError(
                f"cannot listen on unix:{path}: {error.strerror or error}; choose another path with --host unix:/path "
                "(http_server.address), in a directory of the gateway's user"
            ) from error

    def remove(self) -> None:
        """Remove the file, if it is still ours."""
        with suppress(OSError):
            if _identity(self.path) == self._made:
                os.unlink(self.path)


def _identity(path: str) -> tuple[int, int, int]:
    """Of the file; its number alone may be the successor's, too, once ours is gone."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _clear(path: str) -> None:
    """Remove a socket's file that nobody listens on."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ServeError(f"cannot listen on unix:{path}: that is a file, and no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its queue is full, so it is alive
            pass
    raise ServeError(f"cannot listen on unix:{path}: another process listens there; stop it, or choose another path")


def _bind(path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody comes in before the mode is right
    try:
        sock.bind(path)
        os.chmod(path, mode)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock
