"""A real PostgreSQL for tests, on a free port of this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.ports import free_port
from tests.waiting import until_blocking

_HOME = "/usr/lib/postgresql"
"""Where Debian keeps the programs, by version, and not on PATH."""

_SUPERUSER = "postgres"
"""Who owns the server's data, and its process where the tests run as root: PostgreSQL refuses to."""

_FAST = ("fsync=off", "full_page_writes=off", "max_connections=200")
"""The tests pull no plug, so that nothing must have reached the disk; and several nodes connect."""


class PostgresServer:
    """Starts, stops, kills and pauses one server, always on the same port.

    ``settings`` go to the server as ``name=value``. Everybody on this machine may connect, as superuser.
    """

    def __init__(self, *settings: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        return f"postgres://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start with the data left in the directory, made at the first start, and wait until it answers."""
        if not (self._data / "PG_VERSION").exists():
            self._make()
        command = [_program("postgres"), "-D", str(self._data), "-p", str(self.port), "-k", str(self.directory)]
        command += ["-c", "listen_addresses=127.0.0.1"]
        for setting in (*_FAST, *self._settings):
            command += ["-c", setting]
        with self.log.open("ab") as log:
            # Backends are process groups of their own, and the server must not hear our Ctrl-C
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
                user=_owner(),
                group=_owner(),
            )
        try:
            until_blocking(self._answers, deadline=30, what="postgres answers")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order: clients are disconnected, and what was written is on the disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._ended()

    def kill(self) -> None:
        """End it as a power cut would, with all that it has started."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # it starts nobody any more
        children = self._children()
        for pid in (*children, self._process.pid):
            _signal(pid, signal.SIGKILL)
        self._ended()
        until_blocking(lambda: not any(_lives(pid) for pid in children), what="postgres' processes have ended")

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self._process is not None
        for pid in (self._process.pid, *self._children()):
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        for pid in (*self._children(), self._process.pid):
            _signal(pid, signal.SIGCONT)

    def sql(self, statement: str, database: str = "postgres") -> list[str]:
        """Run one statement from outside; its rows, a line each, columns separated by ``|``."""
        done = self._psql(statement, database)
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def create_database(self, name: str) -> str:
        """Make an empty database, in place of one that has the name; gives its URL."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.sql(f"CREATE DATABASE {name}")
        return self.database_url(name)

    def backends(self, query: str = "%", database: str = "%") -> list[int]:
        """Connections of clients whose present or last statement is like ``query``."""
        return [int(row) for row in self.sql(f"SELECT pid {_clients(query, database)}")]

    def terminate_backends(self, query: str = "%", database: str = "%") -> int:
        """Disconnect the clients whose present or last statement is like ``query``; how many they were."""
        return len(self.sql(f"SELECT pg_terminate_backend(pid) {_clients(query, database)}"))

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _make(self) -> None:
        if os.getuid() == 0:
            shutil.chown(self.directory, _SUPERUSER, _SUPERUSER)
        command = [_program("initdb"), "-D", str(self._data), "-U", _SUPERUSER, "--auth=trust", "--no-sync"]
        done = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C"],
            capture_output=True,
            text=True,
            cwd=self.directory,
            check=False,
            user=_owner(),
            group=_owner(),
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr.strip()}")

    def _psql(self, statement: str, database: str) -> "subprocess.CompletedProcess[str]":
        command = [_program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return subprocess.run(
            [*command, self.database_url(database)], capture_output=True, text=True, check=False, timeout=60
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"postgres ended at once: {self.log.read_text(errors='replace')}"
        return self._psql("SELECT 1", "postgres").returncode == 0

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=30)
        self._process = None


def _program(name: str) -> str:
    """Where a program of the newest PostgreSQL is."""
    found = sorted(Path(_HOME).glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is missing; install PostgreSQL, for example: apt-get install postgresql")
    return path


def _owner() -> str | None:
    """Who its processes belong to, as ``Popen`` wants it: PostgreSQL does not run as root."""
    return _SUPERUSER if os.getuid() == 0 else None


def _clients(query: str, database: str) -> str:
    return (
        "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        f" AND query LIKE '{query}' AND datname LIKE '{database}'"
    )


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
