"""How the command line reaches the gateway that the same settings make, on this machine."""

import ssl
from typing import Any, NamedTuple

from gateway.config.pem import is_text
from gateway.config.places import Place, reachable
from gateway.config.settings import ServerTLSSettings, Settings
from gateway.errors import SettingsError

WEBSOCKET = "/connection/websocket"


class Reach(NamedTuple):
    """Where it answers."""

    url: str
    """Without a slash behind: ``https://127.0.0.1:8000/prefix``."""
    path: str = ""
    """Of the Unix socket to connect to."""
    tls: ssl.SSLContext | None = None
    """Believes the gateway's own certificate, whatever its name: it is for others that it has one."""

    @property
    def websocket(self) -> str:
        """The URL for clients."""
        return f"ws{self.url.removeprefix('http')}{WEBSOCKET}"

    @property
    def options(self) -> dict[str, Any]:
        """What `websockets` wants to be told beside it."""
        if self.path:
            return {"unix": True, "path": self.path}
        return {"ssl": self.tls} if self.tls is not None else {}


def reach(settings: Settings, *, operators: bool = False) -> Reach:
    """Where clients connect, or operators call. Raises `SettingsError` where only a proxy can."""
    http = settings.http_server
    apart = http.internal_places if operators else ()
    tls = http.tls_for_operators if apart else http.tls
    if http.proxy_protocol and not apart:
        raise SettingsError(
            "http_server.proxy_protocol lets nobody in but proxies: give the address of one with --url"
            + (", or set http_server.internal_port for what is not for clients" if operators else "")
        )
    place: Place = (apart or http.places)[0]
    if place.path:
        return Reach(f"http://localhost{http.root_path}", place.path)
    scheme = "https" if tls.enabled else "http"
    url = f"{scheme}://{reachable(place.host, place.port)}{http.root_path}"
    return Reach(url, tls=_believing(tls) if tls.enabled else None)


def websocket_url(settings: Settings) -> str:
    """The URL for clients, for who can use no more than that. Raises `SettingsError` if it takes more."""
    found = reach(settings)
    if found.path:
        raise SettingsError(f"clients of unix:{found.path} are made by a proxy: give its address with --url")
    return found.websocket


def _believing(tls: ServerTLSSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # no authority beside the certificate itself
    inline = is_text(tls.cert_pem)
    try:
        context.load_verify_locations(None if inline else tls.cert_pem, None, tls.cert_pem if inline else None)
    except OSError as error:  # an SSLError, too
        raise SettingsError(f"http_server.tls.cert_pem cannot be read: {error.strerror}") from error
    return context
