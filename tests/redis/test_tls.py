"""TLS as it is required in earnest, other families of addresses, and passwords that change: by nodes and publishers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.brokers.redis import RedisBroker
from gateway.config.settings import EngineSettings, RedisSettings, Settings
from gateway.errors import BrokerUnavailable
from gateway.program.publisher import Publisher
from gateway.redis.opening import open_shards
from tests.brokers.recorder import Recorder
from tests.certificates import Authority
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.redis_topologies import Member, SentinelServer
from tests.waiting import until, until_blocking


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def client_tls(authority: Authority) -> dict[str, Any]:
    """What a gateway needs where its certificate is required."""
    certificate, key = authority.issue("gateway")
    return {"server_ca_pem": str(authority.path), "cert_pem": str(certificate), "key_pem": str(key)}


def texts(files: dict[str, str]) -> dict[str, str]:
    """What is in them, which settings take as well."""
    return {name: Path(file).read_text() for name, file in files.items()}


def tls_options(authority: Authority, port: int, name: str = "redis", *addresses: str) -> list[str]:
    """Of a server that wants certificates of its clients. Its own is for the addresses, or else for the name."""
    certificate, key = authority.issue(name, *addresses)
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    return ["--tls-port", str(port), *files, "--tls-ca-cert-file", str(authority.path), "--tls-auth-clients", "yes"]


async def works(**redis: Any) -> None:
    """A node subscribes, and hears what it publishes itself, and what a publisher does."""
    settings = Settings(engine=EngineSettings(type="redis", redis=RedisSettings(io_timeout=2.0, **redis)))
    [shard] = open_shards(settings.engine.redis)
    await shard.start()
    broker, heard = RedisBroker(shard), Recorder()
    await broker.start("n1", heard)
    try:
        await broker.subscribe("c")
        await broker.publish_control(b"hi")
        await until(lambda: heard.controls)

        def publish() -> None:
            with Publisher(settings) as publisher:
                assert publisher.publish("c", "hi").nodes == 1

        await asyncio.to_thread(publish)
        await until(lambda: heard.publications)
    finally:
        await broker.close()
        await shard.close()


async def fails(**redis: Any) -> str:
    """It does not connect; the reason that health gives."""
    settings = Settings(engine=EngineSettings(type="redis", redis=RedisSettings(**redis)))
    [shard] = open_shards(settings.engine.redis)
    await shard.start()
    try:
        [health] = shard.health()
        assert not health.connected
        with Publisher(settings) as publisher, pytest.raises(BrokerUnavailable):
            await asyncio.to_thread(publisher.publish, "c", "hi")
        return health.problem
    finally:
        await shard.close()


async def test_a_client_certificate_is_required(authority: Authority, client_tls: dict[str, Any]) -> None:
    port = free_port()
    with RedisServer(*tls_options(authority, port, "redis", "127.0.0.1")):
        address = f"rediss://127.0.0.1:{port}"
        await works(address=address, tls=client_tls)
        await works(address=f"127.0.0.1:{port}", tls={"enabled": True, **texts(client_tls)})
        told = await fails(address=address, tls={"server_ca_pem": str(authority.path)})
        assert "perhaps it wants a client certificate" in told
        assert "CERTIFICATE_VERIFY_FAILED" in await fails(address=address), "nobody knows the authority"


async def test_the_name_is_checked(authority: Authority, client_tls: dict[str, Any]) -> None:
    port = free_port()
    with RedisServer(*tls_options(authority, port, "redis.example.com")):
        address = f"rediss://127.0.0.1:{port}"
        assert "IP address mismatch" in await fails(address=address, tls=client_tls)
        assert "ostname mismatch" in await fails(address=address, tls={**client_tls, "server_name": "example.com"})
        await works(address=address, tls={**client_tls, "server_name": "redis.example.com"})


async def test_what_the_address_says_holds(authority: Authority) -> None:
    port = free_port()
    options = tls_options(authority, port, "redis.example.com")
    with RedisServer(*options[:-1], "no") as server:
        address, known = f"rediss://127.0.0.1:{port}", f"ssl_ca_certs={authority.path}"
        await works(address=f"{address}?{known}&ssl_check_hostname=false")
        await works(address=f"{address}?ssl_ca_data={quote(authority.path.read_text())}&ssl_check_hostname=false")
        await works(address=f"{address}?ssl_cert_reqs=none")
        assert "mismatch" in await fails(address=f"{address}?{known}")
        assert "CERTIFICATE_VERIFY_FAILED" in await fails(address=address)
        assert await fails(address=f"redis://127.0.0.1:{port}"), "no TLS where it is wanted"
        assert await fails(address=f"rediss://127.0.0.1:{server.port}?ssl_cert_reqs=none"), "and the other way round"


async def test_sentinel(authority: Authority, client_tls: dict[str, Any]) -> None:
    port, sentinel_port = free_port(), free_port()
    options = tls_options(authority, port, "redis", "127.0.0.1")
    lines = tls_options(authority, sentinel_port, "sentinel", "127.0.0.1")
    pairs = zip(lines[::2], lines[1::2], strict=True)
    watch = [f"sentinel monitor mymaster 127.0.0.1 {port} 1", "tls-replication yes"]
    sentinel = SentinelServer([*(f"{name[2:]} {value}" for name, value in pairs), *watch])
    with RedisServer(*options), sentinel:
        address = f"rediss+sentinel://127.0.0.1:{sentinel_port}?sentinel_master_name=mymaster"
        await works(address=address, tls=client_tls, sentinel_tls={"enabled": True, **client_tls})
        assert "CERTIFICATE" in await fails(address=address, tls=client_tls, sentinel_tls={"enabled": True})


@pytest.fixture
def cluster(authority: Authority) -> Iterator[int]:
    """The TLS port of one of two servers that speak TLS among themselves as well."""
    ports, buses = [free_port(), free_port()], [free_port(), free_port()]
    members = [
        Member(
            *("--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(bus)),
            *tls_options(authority, port, f"redis{port}", "127.0.0.1"),
        )
        for port, bus in zip(ports, buses, strict=True)
    ]
    with members[0], members[1]:
        members[0].command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        members[1].command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        members[0].command("CLUSTER", "MEET", "127.0.0.1", ports[1], buses[1])
        until_blocking(
            lambda: all(b"cluster_state:ok" in each.command("CLUSTER", "INFO") for each in members), 30, "they are one"
        )
        yield ports[0]


async def test_cluster(cluster: int, client_tls: dict[str, Any]) -> None:
    await works(address=f"rediss+cluster://127.0.0.1:{cluster}", tls=client_tls)
    assert "CERTIFICATE" in await fails(address=f"rediss+cluster://127.0.0.1:{cluster}")


async def test_ipv6(authority: Authority, client_tls: dict[str, Any]) -> None:
    port = free_port()
    options = tls_options(authority, port, "redis", "::1")
    with RedisServer(*options, "--bind", "127.0.0.1", "::1") as server:
        await works(address=f"redis://[::1]:{server.port}")
        await works(address=f"rediss://[::1]:{port}", tls=client_tls)


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        await works(address=f"unix://{path}")


async def test_a_password_that_is_rotated(tmp_path: Path) -> None:
    """The server lets those in go on, and ends them here; the file is read at each attempt."""
    file = tmp_path / "password"
    file.write_text("old\n")
    with Member(password="old") as server:
        [shard] = open_shards(RedisSettings(address=server.url, password_file=str(file)))
        await shard.start()
        try:
            with server.client() as client:
                client.config_set("requirepass", "new")
                client.client_kill_filter(_type="normal", skipme=True)
                client.client_kill_filter(_type="pubsub", skipme=True)
            await until(lambda: shard.health()[0].refusal == "WRONGPASS")
            file.write_text("new\n")
            await until(lambda: shard.connected)
            assert shard.health()[0].ok
        finally:
            await shard.close()
        await works(address=server.url, password_file=str(file))
