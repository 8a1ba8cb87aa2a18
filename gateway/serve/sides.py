"""The sides of a gateway: what holds for connections of clients, and for those of operators where they are apart."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import uvicorn

from gateway.config.settings import HTTPServerSettings, Settings
from gateway.limits import addresses
from gateway.limits.addresses import Proxies
from gateway.serve.certificates import Certificates, certificates
from gateway.serve.listening import Listener
from gateway.serve.proxy_protocol import Address
from gateway.serve.site import Part

UNIX: Address = (addresses.UNIX, 0)
"""The client of a connection by a Unix socket, which has no address. It is believed what it forwards."""


class Side(NamedTuple):
    """What holds for the connections of one side."""

    config: uvicorn.Config
    certificates: Certificates | None
    proxies: Proxies | None
    """Whose PROXY header every connection begins with; None if there is none."""


class Sides:
    """Both sides; where no listener is for operators apart, that of clients has all. Raises `SettingsError`.

    ``make_config`` gives what uvicorn is told to serve a part of the application.
    """

    def __init__(
        self, settings: Settings, make_config: Callable[[Part], uvicorn.Config], listeners: Iterable[Listener]
    ) -> None:
        http = settings.http_server
        apart = any(listener.internal for listener in listeners)
        proxies = Proxies(http.forwarded_allow_ips) if http.proxy_protocol else None
        config = make_config(Part.CLIENTS if apart else Part.WHOLE)
        self.clients = self.operators = Side(config, certificates(http.tls, "http_server.tls"), proxies)
        self.timeout = settings.client.message_timeout
        if apart:
            self.operators = Side(make_config(Part.OPERATORS), _certificates_for_operators(http), None)

    def of(self, listener: Listener) -> Side:
        return self.operators if listener.internal else self.clients

    def look(self) -> None:
        """Look for changed certificates."""
        for each in {self.clients.certificates, self.operators.certificates}:
            if each is not None:
                each.look()


def check_certificates(http: HTTPServerSettings) -> None:
    """Raise `SettingsError` for certificates that cannot be used."""
    certificates(http.tls, "http_server.tls")
    certificates(http.internal_tls, "http_server.internal_tls")


def _certificates_for_operators(http: HTTPServerSettings) -> Certificates | None:
    key = "internal_tls" if http.internal_tls.enabled else "tls"
    return certificates(http.tls_for_operators, f"http_server.{key}")


def endpoints_of(app: Any, prefix: str, part: Part) -> Mapping[str, Any]:
    """Those of the application by their paths, with the prefix and without: which a client asks for is the proxy's."""
    if part is Part.OPERATORS:
        return {}
    endpoints: Mapping[str, Any] = getattr(getattr(app, "state", None), "endpoints", {})
    return {**endpoints, **{prefix + path: endpoint for path, endpoint in endpoints.items()}}


def forwarders(written: str) -> str:
    """Whose X-Forwarded-For is believed, as uvicorn reads it."""
    return written if written.strip() == "*" else f"{written},{UNIX[0]}"
