"""Our WebSocket class under TLS, where closing has steps of its own."""

import datetime
import ssl
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from gateway.transports.frames import frame
from tests.transports.sockets import (
    BINARY,
    CLOSE,
    MEGABYTES,
    TEXT,
    Running,
    client_frame,
    closing,
    running,
    upgrade_request,
)
from tests.transports.test_raw import Attaching


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost that it signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
async def run(certificate: Path) -> AsyncIterator[Running]:
    trust = ssl.create_default_context(cafile=str(certificate))
    async with running(trust, ssl_certfile=str(certificate), ssl_keyfile=str(certificate)) as run:
        yield run


async def test_messages_of_every_size(run: Running, certificate: Path) -> None:
    run.server.config.ws_max_size = 10_000_000
    trust = ssl.create_default_context(cafile=str(certificate))
    async with connect(f"wss://localhost:{run.port}", ssl=trust, max_size=None, host="127.0.0.1") as client:
        for message in ("hello", b"x" * 70_000, "ü" * 2_000_000):
            await client.send(message)
            assert await client.recv() == message
        await client.close(4001, "lunch")
    await run.ended()
    assert run.app.scopes[0]["scheme"] == "wss"
    assert run.app.received[-1] == {"type": "websocket.disconnect", "code": 4001, "reason": "lunch"}


async def test_the_server_closes(run: Running, certificate: Path) -> None:
    async def close(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(100_000)})
        await send({"type": "websocket.close", "code": 4001, "reason": "lunch"})

    run.app.websocket = close
    trust = ssl.create_default_context(cafile=str(certificate))
    async with connect(f"wss://localhost:{run.port}", ssl=trust, max_size=None, host="127.0.0.1") as client:
        assert await client.recv() == bytes(100_000)
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4001, "lunch")
    await run.ended()


async def test_a_violation_is_named(run: Running) -> None:
    peer = await run.websocket()
    peer.write(b"\x81\x00" + client_frame(b"after") * 1000)
    assert await peer.frame() == closing(1002, b"frame is not masked")
    await peer.rest()
    await run.ended()


async def test_a_refused_handshake_with_more_behind_it(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Under TLS data can still arrive after the connection was told to close."""
    run.app.websocket = refuse
    peer = await run.connect()
    peer.write(upgrade_request())
    peer.write(client_frame(b"x" * 10_000) * 100)
    assert b" 403 " in await peer.head()
    await peer.rest()
    await run.ended()
    invalid = await run.connect()
    invalid.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    invalid.write(client_frame(b"x" * 10_000) * 100)
    assert b" 426 " in await invalid.head()
    await invalid.rest()
    await run.ended()
    assert not caplog.records


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


@pytest.mark.parametrize("sent", [b"", client_frame(struct.pack("!H", 1000), CLOSE)], ids=["silent", "closing"])
async def test_a_peer_that_never_reads_is_dropped(run: Running, sent: bytes) -> None:
    async def flood_and_close(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(MEGABYTES)})
        await send({"type": "websocket.close"})

    run.app.websocket = flood_and_close
    peer = await run.websocket()
    peer.stop_reading()
    peer.write(sent)
    await run.ended()


async def test_a_peer_may_vanish(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    peer = await run.websocket()
    assert await peer.echoes(b"hello")
    peer.writer.transport.abort()
    await run.ended()
    assert run.app.received[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert not caplog.records


async def test_the_server_stops_reading_for_an_application_that_does_not(run: Running) -> None:
    run.app.websocket = run.app.late
    peer = await run.websocket()
    frames = client_frame(b"x" * 50_000) * 20
    for _ in range(20):
        peer.write(frames)
    await run.deadline_passes()
    [connection] = run.server.server_state.connections
    assert len(getattr(connection, "_receiver")._queue) < 20  # noqa: B009  how much it takes is seen nowhere else
    run.app.go_on.set()
    for _ in range(400):
        assert await peer.frame() == (TEXT, b"x" * 50_000)


async def test_a_slow_client_is_known_as_slow(run: Running) -> None:
    run.app.websocket = app = Attaching(run)
    peer = await run.websocket()
    peer.stop_reading()
    recorder = await app.attach()
    for _ in range(2):  # the first passes through TLS into the socket's buffer, whatever its size
        recorder.connection.write(frame(BINARY, bytes(MEGABYTES)))
    assert recorder.events == ["pause"]
    assert recorder.connection.waiting() >= MEGABYTES
    recorder.connection.close(3008, "slow")
    await run.ended()
    assert recorder.events == ["pause", (1006, "")]


async def test_a_session_that_closes_is_answered(run: Running) -> None:
    run.app.websocket = app = Attaching(run)
    peer = await run.websocket()
    peer.write(client_frame(b"before"))
    recorder = await app.attach()
    assert await peer.frame() == (TEXT, b"before")
    recorder.connection.close(3001, "shutdown")
    assert await peer.frame() == closing(3001, b"shutdown")
    peer.write(client_frame(struct.pack("!H", 3001), CLOSE))
    assert await peer.rest() == b""
    await run.ended()
    assert recorder.losses == [(3001, "")]
