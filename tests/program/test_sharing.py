"""Processes of one application that do not share what they must: who is told, and who is not."""

import os
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, Settings
from gateway.program import sharing
from gateway.program.sharing import count_workers
from tests.integration.processes import Process
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.waiting import until

APP = """
from fastapi import FastAPI
from gateway import Gateway

gateway = Gateway()
app = FastAPI()
app.include_router(gateway.router)
"""
START = 60.0
"""Seconds that servers have to start on a busy machine."""

UVICORN, GUNICORN, HYPERCORN = "uvicorn", "gunicorn --worker-class=uvicorn_worker.UvicornWorker", "hypercorn"
SERVERS = [
    (f"{UVICORN} --workers=2", {}, 2),
    (UVICORN, {"WEB_CONCURRENCY": "2"}, 2),
    (f"{GUNICORN} --workers=2", {}, 2),
    (f"{HYPERCORN} --workers=2", {}, 2),
    (UVICORN, {}, 1),
    (f"{UVICORN} --reload", {"WEB_CONCURRENCY": "2"}, 1),
    (f"{GUNICORN} --workers=1", {}, 1),
    (f"{HYPERCORN} --workers=1", {}, 1),
]


@pytest.mark.parametrize(("server", "environment", "workers"), SERVERS)
async def test_workers_with_memory_alone_say_so(
    tmp_path: Path, server: str, environment: dict[str, str], workers: int
) -> None:
    (tmp_path / "app.py").write_text(APP)
    port, [name, *options] = free_port(), server.split()
    bind = f"--port={port}" if name == "uvicorn" else f"--bind=127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "WEB_"))}
    inherited |= {"PYTHONPATH": str(Path(sharing.__file__).parents[2]), "HOME": str(tmp_path)}

    async def ready() -> httpx.Response | None:
        try:
            return await http.get(f"http://127.0.0.1:{port}/health/ready")
        except httpx.TransportError:
            return None

    with Process(name, tmp_path) as process:
        process.run_module(name, ["app:app", bind, *options], inherited | environment)
        async with httpx.AsyncClient(trust_env=False) as http:
            response = await until(ready, START, "an answer")
            assert response is not None
        if workers == 1:
            assert "one of" not in process.log
            assert "warnings" not in response.json()
        else:
            said = f"one of {workers} workers"
            await until(lambda: process.log.count(said) == workers, START, "the word of each")
            assert "set GATEWAY_REDIS_URL" in process.log
            assert (response.status_code, response.json()["status"]) == (200, "degraded")
            assert said in response.json()["warnings"][0]


def test_a_program_of_its_own_is_alone() -> None:
    assert count_workers() == 1


def gateway_on(server: RedisServer, database: int, **sections: object) -> Gateway:
    redis = {"address": f"{server.url}/{database}"}
    return Gateway(Settings.model_validate({"engine": {"type": "redis", "redis": redis}, **sections}))


async def test_another_database_is_another_cluster(server: RedisServer) -> None:
    """Though Redis passes its messages on to all: nothing of one is heard in the other, not even commands."""
    here, there, beside = gateway_on(server, 0), gateway_on(server, 1), gateway_on(server, 0)
    async with here.lifespan(), there.lifespan(), beside.lifespan():
        await until(lambda: len(here.node.cluster.nodes()) == len(beside.node.cluster.nodes()) == 2)
        assert len(there.node.cluster.nodes()) == 1
        heard: list[str] = []
        for gateway, name in ((here, "here"), (there, "there"), (beside, "beside")):
            gateway.node.cluster.listeners["word"] = lambda word, name=name: heard.append(f"{name} {word}")  # type: ignore[misc]
        await there.node.cluster.notify("word", "of there")
        await here.node.cluster.notify("word", "of here")
        await until(lambda: len(heard) == 3)
        assert sorted(heard) == ["beside of here", "here of here", "there of there"]


async def test_a_worker_that_hears_no_other_says_so(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "count_workers", lambda: 2)
    monkeypatch.setattr(sharing, "COMING", 0.1)
    alone = gateway_on(server, 0)
    async with alone.lifespan():
        await until(lambda: alone.node.warnings)
        assert "one of 2 workers, and has heard of no other" in alone.node.warnings[0]


async def test_a_worker_that_hears_another_is_content(server: RedisServer) -> None:
    first, second = gateway_on(server, 0), gateway_on(server, 0)
    async with first.lifespan(), second.lifespan():
        await until(lambda: len(first.node.cluster.nodes()) == 2)
        sharing._look_for_others(first.node, 2)
        assert first.node.warnings == []
