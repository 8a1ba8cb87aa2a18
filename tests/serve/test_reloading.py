"""SIGHUP: settings and secrets are read anew, and who is connected stays."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway.auth.tokens import sign_connection
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.reloading import Reloading, set_log_level, take_over
from tests.forked import Forked
from tests.redis_server import RedisServer
from tests.serve.processes import BASE, Process
from tests.waiting import until, until_blocking

OLD, NEW = (f"the {name} secret, of more than thirty-two bytes" for name in ("old", "new"))
ORIGIN = Origin("https://page.example")


class Served:
    """`gateway serve` with a file of settings and two of secrets."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        self.clients: list[ClientConnection] = []
        self.token, self.key = folder / "token", folder / "key"
        self.token.write_text(OLD + "\n")
        self.key.write_text("the old key of the API\n")
        self.write(**sections)
        arguments = ["serve", "--port", "0", "-c", str(folder / "gateway.json")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment["GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY_FILE"] = str(self.token)
        self.popen = Forked("gateway", arguments, folder, environment, folder / "log")

    def ready(self) -> "Served":
        until_blocking(lambda: "ready on" in self.log or self.popen.poll() is not None, deadline=30)
        assert "ready on" in self.log, self.log
        self.port = int(self.log.split("ready on http://127.0.0.1:")[1].split()[0])
        return self

    def write(self, *, names: tuple[str, ...] = ("chat",), client: dict[str, Any] | None = None, **others: Any) -> None:
        namespaces = [{"name": name, "allow_subscribe_for_client": True} for name in names]
        api = {"key_file": str(self.key)}
        values = {"client": client or {}, "http_api": api, "channel": {"namespaces": namespaces}, **others}
        (self.folder / "gateway.json").write_text(json.dumps({"shutdown": {"grace": 0}, **values}))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text() if (self.folder / "log").exists() else ""

    def hang_up(self, expected: str, times: int = 1) -> None:
        self.popen.send_signal(signal.SIGHUP)
        until_blocking(lambda: self.log.count(expected) >= times, deadline=60, what=f"{expected!r} in {self.log}")

    async def client(self, secret: str, **options: Any) -> ClientConnection:
        client = await connect(f"ws://127.0.0.1:{self.port}/connection/websocket", proxy=None, **options)
        self.clients.append(client)
        await client.send(json.dumps({"id": 1, "connect": {"token": sign_connection(secret, "ann")}}))
        assert "connect" in json.loads(await client.recv())
        return client

    async def refuses(self, secret: str) -> int | None:
        """The code with which it does so; None if it does not."""
        try:
            await self.client(secret)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
        return None

    def api(self, key: str, **publication: Any) -> int:
        headers = {"X-API-Key": key}
        return httpx.post(f"http://127.0.0.1:{self.port}/api/publish", json=publication, headers=headers).status_code

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(30)


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(**sections: Any) -> Served:
        started.append(Served(tmp_path, **sections))
        return started[-1].ready()

    yield start
    for each in started:
        await asyncio.gather(*(client.close() for client in each.clients))
        if each.popen.poll() is None:
            each.popen.kill()
            each.popen.wait(20)


async def said(client: ClientConnection, command: dict[str, Any]) -> Any:
    await client.send(json.dumps({"id": 2, **command}))
    return await answer(client)


async def answer(client: ClientConnection) -> Any:
    """The next message that is no ping."""
    async with asyncio.timeout(20):
        while (message := json.loads(await client.recv())) == {}:
            await client.send("{}")
    return message


async def test_one_process_takes_over_what_it_may(serve: Callable[..., Served]) -> None:
    served = serve()
    ann = await served.client(OLD)
    assert "subscribe" in await said(ann, {"subscribe": {"channel": "chat:a"}})
    with pytest.raises(InvalidStatus, match="403"):
        await served.client(OLD, origin=ORIGIN)
    served.token.write_text(NEW)
    served.key.write_text("the new key of the API")
    served.write(names=("chat", "news"), client={"allowed_origins": [ORIGIN]}, http_server={"root_path": "/x"})
    served.hang_up("http_server.root_path has changed, and waits for a restart")
    names = "client.token.hmac_secret_key, client.allowed_origins, channel.namespaces.news, http_api.key"
    assert f"settings are read anew: {names}\n" in served.log
    assert await served.refuses(OLD) == 3500
    ben = await served.client(NEW, origin=ORIGIN)
    assert "subscribe" in await said(ben, {"subscribe": {"channel": "news:a"}})
    assert served.api("the old key of the API", channel="chat:a", data=1) == 401
    assert served.api("the new key of the API", channel="chat:a", data=2) == 200
    assert (await answer(ann))["push"]["pub"]["data"] == 2, "it has been there all the time"
    assert OLD not in served.log
    assert NEW not in served.log
    assert served.stop() == 0


async def test_what_is_wrong_is_told_and_those_of_before_hold(serve: Callable[..., Served]) -> None:
    served = serve()
    ann = await served.client(OLD)
    served.token.unlink()
    served.write(names=("news",))
    served.hang_up("these settings are not taken over; those of before hold on")
    told = f'"{served.token}" cannot be read: No such file or directory'
    assert f"client.token.hmac_secret_key_file (environment GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY_FILE): {told}" in (
        served.log
    )
    assert "subscribe" in await said(ann, {"subscribe": {"channel": "chat:a"}})
    await served.client(OLD)
    served.token.write_text(OLD)
    served.hang_up("channel.namespaces.chat (removed) has changed, and waits for a restart")
    assert "Traceback" not in served.log


async def test_workers_take_over_without_being_replaced(serve: Callable[..., Served]) -> None:
    with RedisServer() as redis:
        engine = {"type": "redis", "redis": {"address": redis.url}}
        workers = {"workers": 2}
        served = serve(engine=engine, http_server=workers)
        clients = [await served.client(OLD) for _ in range(8)]
        served.token.write_text(NEW)
        served.hang_up("the workers take over, and go on: client.token.hmac_secret_key\n")

        async def each_knows() -> bool:
            return await served.refuses(OLD) == 3500

        for _ in range(8):  # whichever worker it is
            await until(each_knows)
            await served.client(NEW)
        for client in clients:
            assert "subscribe" in await said(client, {"subscribe": {"channel": "chat:a"}})
        assert "rolling restart" not in served.log
        served.hang_up("the rolling restart is done")  # nothing has changed: it is asked for by itself
        served.write(engine=engine, http_server=workers, websocket={"compression": True})
        served.hang_up("the rolling restart is done", times=2)
        await served.client(NEW)
        assert served.stop() == 0


def test_a_successor_has_the_settings_that_were_taken_over(start: Callable[..., Process], tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"

    def write(limit: int) -> None:
        client = {"insecure": True, "channel_limit": limit}
        file.write_text(json.dumps({**BASE, "client": client, "http_server": {"port": 0, "workers": 2}}))

    write(1)
    process = start(file=file).ready()
    victim = process.workers(2).pop()
    write(7)
    process.hang_up()
    process.logged("channel_limit is 7", times=2)
    os.kill(victim, signal.SIGKILL)
    process.logged("channel_limit is 7", times=3)
    assert "rolling restart" not in process.log


def test_without_a_source_nothing_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    Reloading(lambda _: None, None).hangup()
    assert caplog.messages == ["SIGHUP changes nothing here: nobody has said where the settings come from"]


def test_an_application_may_not_know_how(caplog: pytest.LogCaptureFixture) -> None:
    take_over(object(), Settings())
    assert caplog.messages == ["the application cannot take settings over while it runs; they wait for a restart"]


def test_an_application_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Settings) -> None:
        raise RuntimeError

    take_over(SimpleNamespace(state=SimpleNamespace(reload=fail)), Settings())
    assert caplog.messages == ["RuntimeError()", "these settings are not taken over; those of before hold on"]


def test_settings_that_are_refused_leave_the_level_of_the_log() -> None:
    logger = logging.getLogger("gateway")
    before = logger.level

    def fail(_: Settings) -> None:
        raise SettingsError("no")

    take_over(SimpleNamespace(state=SimpleNamespace(reload=fail)), Settings(log={"level": "error"}))
    assert logger.level == before


def test_the_level_of_the_log_is_taken_over() -> None:
    log = logging.getLogger("gateway")
    before = log.level
    settings: Any = SimpleNamespace(log=SimpleNamespace(level="error"))
    try:
        set_log_level(settings)
        assert log.level == logging.ERROR
    finally:
        log.setLevel(before)
