"""The official SDK where WebSockets do not come through: by itself it takes another way, to whichever node."""

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.clients.javascript import SSESDK, HTTPStreamProtobufSDK, HTTPStreamSDK, JavaScriptSDK
from tests.integration.processes import program
from tests.integration.servers import (
    Balancer,
    Cluster,
    GatewayServer,
    Server,
    caddy,
    haproxy,
    nginx,
    rewritten,
    round_robin,
)
from tests.integration.settings import SETTINGS
from tests.integration.tokens import connection_token
from tests.node import PACKAGES
from tests.waiting import until

EMULATED = [HTTPStreamSDK, HTTPStreamProtobufSDK, SSESDK]

Balance = Callable[[Path, Sequence[Server]], Balancer]


class Falling(JavaScriptSDK):
    """Tries a WebSocket first, as a page does."""

    transports = ("websocket", "http_stream", "sse")


def blocking_haproxy(directory: Path, gateways: Sequence[Server]) -> Balancer:
    """The deployed configuration, and a rule against WebSockets."""
    rule = "    http-request return status 403 if { req.hdr(Upgrade) -m found }"
    return rewritten(haproxy(directory, gateways), r"^(    monitor-uri .*)$", rf"\1\n{rule}")


def blocking_nginx(directory: Path, gateways: Sequence[Server]) -> Balancer:
    """The deployed configuration, without the headers by which it passes WebSockets on."""
    return rewritten(nginx(directory, gateways), r"^ *proxy_set_header (?:Upgrade|Connection) .*;\n", "")


def blocking_caddy(directory: Path, gateways: Sequence[Server]) -> Balancer:
    """The deployed configuration, and a rule against WebSockets."""
    rule = "\t@upgrade header Upgrade *\n\trespond @upgrade 403"
    return rewritten(caddy(directory, gateways), r"^(\trespond @metrics 404)$", rf"\1\n{rule}")


BLOCKING = [blocking_haproxy, blocking_nginx, blocking_caddy]


# — several nodes —


@pytest.mark.parametrize("kind", EMULATED, ids=lambda kind: kind.name)
async def test_commands_go_to_another_node(gateways: Cluster, kind: type[JavaScriptSDK], channel: str) -> None:
    async with kind() as sdk:
        client = await sdk.emulated(gateways.a.ws_url, gateways.b.ws_url, connection_token("wanderer"))
        await client.connect()
        subscription = await client.subscribe(channel)
        await client.publish(channel, *range(20))
        await until(lambda: len(subscription.received) == 20)
        assert sorted(subscription.received) == list(range(20))  # those of several requests may overtake each other
        assert await client.presence_stats(channel) == (1, 1)
        assert (await client.history(channel, 100)).offset == 20
        await client.disconnect()


@pytest.mark.parametrize("kind", EMULATED, ids=lambda kind: kind.name)
async def test_nobody_has_to_stick_to_a_node(
    gateways: Cluster, kind: type[JavaScriptSDK], channel: str, tmp_path: Path
) -> None:
    with round_robin(tmp_path, [gateways.a, gateways.b]) as balancer:
        async with kind() as sdk:
            client = await sdk.connected(balancer.ws_url, connection_token("wanderer"))
            subscription = await client.subscribe(channel)
            for number in range(10):
                await client.publish(channel, number)
            await subscription.wait_received(list(range(10)))
            await client.disconnect()
        emulated = [line for line in balancer.log.splitlines() if line.endswith("POST /emulation")]
        assert len(emulated) >= 11
        landed = {re.search(r"/(gateway\d) ", line)[1] for line in emulated}  # type: ignore[index]
        assert landed == {"gateway1", "gateway2"}, "the stream is on one of them, and what came to the other was done"


@pytest.mark.parametrize("kind", EMULATED, ids=lambda kind: kind.name)
async def test_one_node_with_a_memory_engine(tmp_path: Path, kind: type[JavaScriptSDK], channel: str) -> None:
    with GatewayServer("alone", tmp_path, SETTINGS) as server:
        async with kind() as sdk:
            client = await sdk.connected(server.ws_url, connection_token("alone"))
            subscription = await client.subscribe(channel)
            await client.publish(channel, "x")
            await subscription.wait_received(["x"])
            assert client.events.named("connected")[-1].transport == sdk.transports[0]
            assert await asyncio.to_thread(server.terminate) == 0
            assert (await client.events.wait("connecting", 2)).code == 3001


@pytest.mark.parametrize("kind", EMULATED, ids=lambda kind: kind.name)
async def test_a_node_that_is_gone_is_left(gateways: Cluster, kind: type[JavaScriptSDK], channel: str) -> None:
    """Its clients learn of it by their next command, if not by the end of their stream."""
    async with kind() as sdk:
        client = await sdk.emulated(
            gateways.a.ws_url, "ws://127.0.0.1:1/connection/websocket", connection_token("lost")
        )
        await client.connect()
        subscription = await client.subscription(channel)
        await subscription.begin()
        await client.events.wait("connecting", 2)


# — where WebSockets are blocked —


@pytest.mark.parametrize("balance", BLOCKING, ids=lambda balance: balance.__name__)
async def test_the_sdk_falls_back_by_itself(gateways: Cluster, balance: Balance, channel: str, tmp_path: Path) -> None:
    with balance(tmp_path, [gateways.a, gateways.b]) as balancer:
        async with Falling() as sdk:
            client = await sdk.connected(balancer.ws_url, connection_token("inside"))
            assert client.events.named("connected")[-1].transport == "http_stream"
            subscription = await client.subscribe(channel)
            for number in range(5):
                await client.publish(channel, number)
            await subscription.wait_received(list(range(5)))
            await client.disconnect()


@pytest.mark.parametrize("balance", [haproxy, nginx, caddy], ids=lambda balance: balance.__name__)
@pytest.mark.parametrize("kind", EMULATED, ids=lambda kind: kind.name)
async def test_who_leaves_is_missed_at_once(
    gateways: Cluster, balance: Balance, kind: type[JavaScriptSDK], channel: str, tmp_path: Path
) -> None:
    """Not with the next ping alone, as without ``option abortonclose`` in HAProxy."""
    with balance(tmp_path, [gateways.a, gateways.b]) as balancer:
        async with kind() as sdk, JavaScriptSDK() as other:
            watcher = await other.connected(gateways.a.ws_url, connection_token("outside"))
            client = await sdk.connected(balancer.ws_url, connection_token("inside"))
            await client.subscribe(channel)
            assert await watcher.presence_stats(channel) == (1, 1)
            await client.disconnect()

            async def gone() -> bool:
                return await watcher.presence_stats(channel) == (0, 0)

            await until(gone)


@pytest.mark.parametrize("balance", BLOCKING[:2], ids=lambda balance: balance.__name__)
async def test_a_page_falls_back_by_itself(gateways: Cluster, balance: Balance, channel: str, tmp_path: Path) -> None:
    with balance(tmp_path, [gateways.a, gateways.b]) as balancer:
        origin = balancer.url.removeprefix("http://")
        command = [program("node", "nodejs"), str(PACKAGES / "fallback.mjs"), program("chromium", "chromium")]
        browser = await asyncio.create_subprocess_exec(
            *command, origin, channel, connection_token("page"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        output = (await browser.communicate())[0].decode()
    assert browser.returncode == 0, output
    assert output.split() == ["http_stream", "ok", "sse", "ok"], output
