"""Where a Redis server is, and how to log in."""

import ssl
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from gateway.config.pem import as_file, is_text
from gateway.config.settings import TLSSettings
from gateway.redis.resp import Argument


class Endpoint(Struct, frozen=True):
    """Where a Redis server is, and how to log in."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""
    """Of a Unix socket, instead."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """That its certificate must have; by default the host."""
    username: str = ""
    password: str = ""
    password_file: str = ""
    db: int = 0

    def __str__(self) -> str:
        """Its name in logs: without a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Endpoint {self}>"

    def handshake(self) -> list[tuple[Argument, ...]]:
        """What is sent first. Raises ``OSError`` if the password cannot be read."""
        commands: list[tuple[Argument, ...]] = []
        if password := self.password or self.read_password():
            commands.append(("AUTH", self.username, password) if self.username else ("AUTH", password))
        if self.db:
            commands.append(("SELECT", self.db))
        # A server that is still loading its data set answers PING with LOADING.
        return [*commands, ("PING",)]

    def read_password(self) -> str:
        return Path(self.password_file).read_text(encoding="utf-8").strip() if self.password_file else ""


def tls_context(settings: TLSSettings) -> ssl.SSLContext:
    """Raises ``OSError`` for keys and certificates that cannot be used."""
    authorities = settings.server_ca_pem
    inline = is_text(authorities)
    context = ssl.create_default_context(
        cafile=None if inline else authorities or None, cadata=authorities if inline else None
    )
    if settings.cert_pem:
        with ExitStack() as stack:
            names = [stack.enter_context(as_file(pem)) for pem in (settings.cert_pem, settings.key_pem) if pem]
            context.load_cert_chain(*names)
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
