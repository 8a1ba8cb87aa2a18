"""Where a Redis server is, and how to log in."""

import re
import ssl
from typing import Any

from msgspec import Struct
from redis.connection import SSLConnection, parse_url

from gateway.errors import SettingsError
from gateway.redis.resp import Argument


class Endpoint(Struct, frozen=True):
    """Where a Redis server is, and how to log in."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = ""
    db: int = 0

    @classmethod
    def parse(cls, address: str) -> "Endpoint":
        """Read a URL (redis://, rediss://, unix://) or host:port. Raises ``SettingsError``."""
        try:
            url = address if "://" in address else f"redis://{address}"
            parts = dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py leaves it so
            if parts.pop("connection_class", None) is SSLConnection:
                parts["tls"] = _tls_context(parts)
            return cls(**parts)
        except (ValueError, TypeError, OSError) as exc:
            shown = re.sub(r"//[^@/]*@", "//***@", address)
            raise SettingsError(
                f"engine.redis.address = {shown!r} cannot be used ({exc}); "
                "write for example redis://127.0.0.1:6379/0 or rediss://user:password@redis.example.com:6380"
            ) from None

    def handshake(self, name: str) -> list[tuple[Argument, ...]]:
        commands: list[tuple[Argument, ...]] = []
        if self.password:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        # A server that is still loading its data set answers PING with LOADING.
        return [*commands, ("CLIENT", "SETNAME", name), ("PING",)]


def _tls_context(parts: dict[str, Any]) -> ssl.SSLContext:
    """Make the TLS context out of the URL's ``ssl_...`` parameters, which are taken out of ``parts``."""
    context = ssl.create_default_context(cafile=parts.pop("ssl_ca_certs", None))
    if (certificate := parts.pop("ssl_certfile", None)) is not None:
        context.load_cert_chain(certificate, parts.pop("ssl_keyfile", None))
    if parts.pop("ssl_cert_reqs", "required") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
