"""An issuer of tokens with a server of its own, which publishes keys, or fails to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

RSA = rsa.generate_private_key(65537, 2048)
RSA_OTHER = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

_KINDS: dict[type, Any] = {
    rsa.RSAPrivateKey: RSAAlgorithm,
    ec.EllipticCurvePrivateKey: ECAlgorithm,
    ed25519.Ed25519PrivateKey: OKPAlgorithm,
}


def jwk(key: Any, kid: Any, **changes: Any) -> dict[str, Any]:
    """The public key as it is published. A change to None takes a field away."""
    kind = next(algorithm for kind, algorithm in _KINDS.items() if isinstance(key, kind))
    found = {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
    found.pop("key_ops", None)
    return {name: value for name, value in (found | changes).items() if value is not None}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(key: Any, algorithm: str, kid: str | None = "k", **claims: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.PyJWS().encode(json.dumps({"sub": "ann", **claims}).encode(), key, algorithm, headers)


class Issuer:
    """Answers every path with what ``body`` and ``status`` say. ``paths`` are those that have been asked for."""

    def __init__(self) -> None:
        self.port = 0
        self.body = document()
        self.status = "200 OK"
        self.headers: dict[str, str] = {}
        self.paths: list[str] = []
        self.silent = asyncio.Event()
        """While it is set nobody is answered."""
        self._go_on = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.status, self.headers, self.body = "200 OK", {}, document(*keys)

    def fail(self, status: str = "503 Service Unavailable", **headers: str) -> None:
        self.status, self.headers, self.body = status, headers, b""

    def go_on(self) -> None:
        """Answer whoever waits."""
        self.silent.clear()
        self._go_on.set()

    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator["Issuer"]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port, **options)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.go_on()
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split(b" ")[1].decode())
            if self.silent.is_set():
                self._go_on.clear()
                await self._go_on.wait()
            headers = {"Content-Length": str(len(self.body)), "Connection": "close", **self.headers}
            lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode() + self.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuing(*keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.publish(*keys)
    async with issuer.serve():
        yield issuer
