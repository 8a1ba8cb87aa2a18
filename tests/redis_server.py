"""A real redis-server for tests, on a free port of this machine."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from tests.ports import free_port
from tests.waiting import until_blocking


class RedisServer:
    """Starts, stops, kills and pauses one server, always on the same port. ``args`` go to redis-server."""

    def __init__(self, *args: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-redis-"))
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self) -> Redis:
        """A plain blocking client, to look at the server from outside."""
        return Redis(host="127.0.0.1", port=self.port, protocol=2, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start with the data left in the directory, and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is missing; install it, for example: apt-get install redis-server")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        defaults = ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, *defaults, *self._args], stdout=subprocess.DEVNULL)
        try:
            until_blocking(self._answers, what="redis-server answers")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)
        self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "redis-server ended at once; is the port free?"
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except (RedisConnectionError, OSError):
            return False
