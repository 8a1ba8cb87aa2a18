"""A program on `engine.type = "broadcaster"`: what it has, and what it is refused by name."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from gateway import Gateway
from gateway.config.contradictions import find_problems
from gateway.config.settings import Settings
from gateway.errors import Error, SettingsError
from gateway.messages import ClientInfo
from gateway.presence.survey import MEMBERS
from gateway.program.publisher import Publisher
from tests.postgres_server import PostgresServer
from tests.waiting import until


def engine(url: str = "memory://") -> Any:
    return {"type": "broadcaster", "broadcaster": {"url": url, "probe_interval": 0.5}}


def problems(**sections: Any) -> list[str]:
    return [f"{each.key}: {each.text}" for each in find_problems(Settings(**sections))]


async def test_two_nodes_of_a_program(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("program")
    gateways = [Gateway(engine=engine(url)) for _ in range(2)]
    for gateway in gateways:
        gateway.channel("chat:{room}", presence=True)
    one, two = gateways
    async with one.lifespan(), two.lifespan(), two.listen("chat:a") as heard:
        receipt = await one.publish("chat:a", {"text": "x" * 20_000})
        await one.publish("chat:a", "second")
        assert (receipt.offset, receipt.nodes) == (0, -1)
        found = [await anext(aiter(heard)) for _ in range(2)]
        assert [each.data for each in found] == [{"text": "x" * 20_000}, "second"]
        await until(lambda: all(len(each.nodes()) == 2 for each in gateways))
        assert await one.channels() == {"chat:a": 1}
        assert await one.presence_stats("chat:a") == (0, 0)
        await two.node.presence_store.add("chat:a", ClientInfo("ann", "c1"))
        members = await one.presence("chat:a")
        assert (list(members), members.partial, members.missing) == (["c1"], False, 0)
        peers = two.running.engine.peers
        assert peers is not None
        del peers.asked[MEMBERS]
        members = await one.presence("chat:a")
        assert (list(members), members.partial, members.missing) == ([], True, 1)
        with pytest.raises(Error, match="idempotency keys"):
            await one.publish("chat:a", 1, idempotency_key="k")
        with pytest.raises(Error, match="no list of blocked users"):
            await one.block("7")
        await one.unblock("7")
        assert await one.blocked() == ({}, "")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(engine=engine())


async def refusal(gateway: Gateway) -> str:
    with pytest.raises(SettingsError) as refused:
        async with gateway.lifespan(FastAPI()):
            pass
    return str(refused.value)


async def test_history_of_a_route_is_refused(gateway: Gateway) -> None:
    gateway.channel("chat:{room}", history_size=10, history_ttl=60)
    assert 'gateway.channel("chat:{room}")' in await refusal(gateway)
    assert "no history is kept" in await refusal(gateway)


async def test_a_live_source_is_refused(gateway: Gateway) -> None:
    @gateway.channel("price:{id}").live
    async def prices(id: str) -> AsyncIterator[int]:  # noqa: A002
        yield 1

    assert "live source" in await refusal(gateway)


@pytest.mark.parametrize("event", ["on_occupied", "on_vacated"])
async def test_hearing_of_the_first_and_the_last_is_refused(gateway: Gateway, event: str) -> None:
    channel = gateway.channel("chat:{room}")

    async def handler(room: str) -> None: ...

    getattr(channel, event)(handler)
    assert f"has {event}" in await refusal(gateway)


async def test_quotas_are_refused_and_rates_told_of(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    gateway.rate_limit("10/second")
    async with gateway.lifespan(FastAPI()):
        assert '"10/second" each node allows as much by itself' in caplog.text
    other = Gateway(engine=engine())
    other.quota("1000/day", name="uploads")
    assert 'the quota "uploads"' in await refusal(other)


async def test_all_that_is_refused_is_named_at_once(gateway: Gateway) -> None:
    gateway.channel("a:{x}", history_size=10, history_ttl=60)
    gateway.channel("b:{x}", history_size=10, history_ttl=60)
    gateway.quota("1000/day")
    assert len((await refusal(gateway)).splitlines()) == 3


def test_another_engine_refuses_none_of_it() -> None:
    async def run() -> None:
        gateway = Gateway()
        gateway.channel("a:{x}", history_size=10, history_ttl=60)
        gateway.quota("1000/day")
        async with gateway.lifespan(FastAPI()):
            pass

    asyncio.run(run())


def test_history_in_settings_contradicts() -> None:
    kept = {"history_size": 10, "history_ttl": 60}
    channel = {"without_namespace": kept, "namespaces": [{"name": "plain"}, {"name": "kept", **kept}]}
    found = problems(engine=engine(), channel=channel)
    assert [each.partition(":")[0] for each in found] == [
        "channel.without_namespace.history_size",
        "channel.namespaces.1.history_size",
    ]
    assert all("keeps no history" in each for each in found)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "says which backend"),
        ("mysql://me:secret@host/db", "'mysql://***@host/db' names no backend"),
        ("redis-stream://host", "forgets nothing"),
        ("postgres://[::1/db", "cannot be read"),
        ("localhost:5432", "names no backend"),
    ],
)
def test_a_url_that_is_none_contradicts(url: str, text: str) -> None:
    [found] = problems(engine=engine(url))
    assert found.startswith("engine.broadcaster.url: ")
    assert text in found
    assert "secret" not in found


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.broadcast.backends.find_spec", lambda _name: None)
    [found] = problems(engine=engine("kafka://localhost:9092"))
    assert 'needs aiokafka, which is not installed: pip install "wsgateway[broadcaster]"' in found


def test_memory_serves_one_worker() -> None:
    [found] = problems(engine=engine(), http_server={"workers": 2})
    assert found.startswith("http_server.workers: 2 workers cannot share memory")
    assert not problems(engine=engine("postgres://localhost"), http_server={"workers": 2})


def test_a_publisher_of_another_process_is_told_where_to_go() -> None:
    with pytest.raises(SettingsError, match="/api/publish"):
        Publisher(Settings(engine=engine("postgres://localhost")))
