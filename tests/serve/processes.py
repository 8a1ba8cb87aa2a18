"""Servers as processes of their own, and the application that they serve."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.errors import SettingsError
from gateway.serve.listening import ServeError
from gateway.serve.serving import serve
from gateway.serve.supervisor import Supervisor
from tests.forked import ROOT, Forked
from tests.waiting import until_blocking

BASE = {
    "engine": {"type": "redis"},
    "client": {"insecure": True},
    "shutdown": {"grace": 0, "drain_time": 0},  # of what the supervisor waits for, only the part that it adds
}


class App:
    """Answers with its process id, its name and the client, and 503 when it is to be asked no more; drains as told.

    It blocks its loop at /block.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = self
        self.draining = asyncio.Event()
        self.ready = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            if (limit := self.settings.client.channel_limit) != 128:
                print(f"channel_limit is {limit}", file=sys.stderr, flush=True)
            if self.settings.node.name == "bad address":  # as starlette does it
                await send({"type": "lifespan.startup.failed", "message": "Traceback (most recent call last): ..."})
                raise SettingsError("node.name is bad address")
            if self.settings.node.name == "broken":
                await send({"type": "lifespan.startup.failed", "message": "the application is broken"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("lifespan ended", file=sys.stderr)
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            if scope["path"] == "/block":
                time.sleep(600)  # noqa: ASYNC251  that is what it is for
            body = json.dumps({"pid": os.getpid(), **_seen(scope)}).encode()
            headers = [] if scope["path"] == "/kept" else [(b"connection", b"close")]
            await send({"type": "http.response.start", "status": 200 if self.ready else 503, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await receive()
            seen = [(b"x-pid", str(os.getpid()).encode()), (b"x-name", self.settings.node.name.encode())]
            seen.append((b"x-seen", json.dumps(_seen(scope)).encode()))
            await send({"type": "websocket.accept", "headers": seen})
            ends = [asyncio.ensure_future(receive()), asyncio.ensure_future(self.draining.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self.draining.is_set():
                await send({"type": "websocket.close", "code": 3001, "reason": "shutdown"})
            for end in ends:
                end.cancel()

    def reload(self, settings: Settings) -> None:
        self.settings = settings
        print(f"channel_limit is {settings.client.channel_limit}", file=sys.stderr, flush=True)

    def lame_duck(self) -> None:
        self.ready = False

    async def drain(self) -> None:
        if self.settings.node.name == "stuck":
            print("drain is stuck", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
        if self.settings.node.name == "bad drain":
            raise RuntimeError("no drain")
        self.draining.set()


def _seen(scope: Any) -> dict[str, Any]:
    return {"client": scope["client"][0], "port": scope["client"][1], "scheme": scope["scheme"], "path": scope["path"]}


def make_app(settings: Settings) -> App:
    if settings.node.name == "bad settings":
        raise SettingsError("node.name is bad settings")
    if settings.node.name == "crash":
        os._exit(7)
    if settings.node.name == "slow to start":
        time.sleep(600)
    return App(settings)


def make_settings(name: str = "", workers: int = 1, port: int = 0) -> Settings:
    return Settings.model_validate({"node": {"name": name}, "http_server": {"port": port, "workers": workers}, **BASE})


def settings_file(directory: Path, http: dict[str, Any], name: str = "settings.json") -> Path:
    """A file for `run_in_process`: the application below, served so."""
    file = directory / name
    file.write_text(json.dumps({**BASE, "http_server": http}))
    return file


def run_in_process(name: str, workers: str, file: str) -> None:
    """What `tests.serve.served` does. With a file, the settings stand there."""
    Supervisor.backoff, Supervisor.stop_timeout = 0.05, 2.0
    Supervisor.tick = 0.3
    if name == "slow to start":
        Supervisor.start_timeout = 5.0
    try:
        if file:
            read = partial(load, Path(file))
            serve(read(), make_app, read)
        else:
            serve(make_settings(name, int(workers)), make_app)
    except (ServeError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


class Process:
    """A server in a process, and its log."""

    def __init__(
        self,
        log: Path,
        name: str = "",
        workers: int = 1,
        file: Path | None = None,
        terminal: int | None = None,
        **environ: str,
    ) -> None:
        self._log = log
        log.touch()
        module, arguments = "tests.serve.served", [name, str(workers), str(file or "")]
        environment = {**os.environ, **environ}
        self.popen: Forked | subprocess.Popen[bytes]
        if terminal is None:
            self.popen = Forked(module, arguments, ROOT, environment, log)
            return
        command = [sys.executable, "-m", module, *arguments]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(command, stdin=terminal, stderr=output, env=environment)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def logged(self, text: str, times: int = 1) -> None:
        until_blocking(lambda: self.log.count(text) >= times, deadline=30, what=f"{text!r} in the log")

    def ready(self) -> "Process":
        until_blocking(lambda: "ready on" in self.log or self.popen.poll() is not None, deadline=30)
        assert "ready on" in self.log, self.log
        return self

    @property
    def port(self) -> int:
        return int(self.log.split("ready on http://127.0.0.1:")[1].split()[0])

    def pid(self) -> int | None:
        # not httpx: each server of these tests would import it, too, in a quarter of a second
        with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as http:
            http.request("GET", "/?token=secret")
            return int(json.loads(http.getresponse().read())["pid"])
        return None

    def workers(self, count: int) -> set[int]:
        """The process ids of all workers, as they answer themselves."""
        pids: set[int] = set()

        def all_answered() -> bool:
            pids.update(filter(None, [self.pid()]))
            return len(pids) >= count

        until_blocking(all_answered, what=f"answers of {count} workers")
        return pids

    def hang_up(self) -> None:
        self.popen.send_signal(signal.SIGHUP)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(20)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
