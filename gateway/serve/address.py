"""The address of a gateway as commands take it: every one of them understands each form that another prints."""

import re
from urllib.parse import urlsplit

from gateway.config.masking import masked
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.reaching import WEBSOCKET, websocket_url

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}
_ENDPOINT = re.compile(r"(/connection/\w+|/api(/\w+)?)?/*$")


class GatewayAddress:
    """Where a gateway answers: ``http://127.0.0.1:8000``, ``wss://example.com/connection/websocket``, ``host:port``.

    What is behind the place of its endpoints is a prefix of them all. Raises `SettingsError` for what is no address.
    """

    def __init__(self, text: str) -> None:
        url = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(url)
            secure = _SECURE[parts.scheme]
            place = parts.netloc
            named = bool(parts.hostname) and parts.port != 0
            f"{place}{parts.path}".encode("ascii")
            if not named or parts.query or parts.fragment or any(letter <= " " for letter in url):
                raise ValueError
        except (KeyError, ValueError) as error:
            raise SettingsError(
                f"{masked(text)} is not an address such as http://127.0.0.1:8000 or "
                f"wss://example.com{WEBSOCKET}; give one with --url"
            ) from error
        self._place = place + _ENDPOINT.sub("", parts.path)
        self._suffix = "s" if secure else ""

    @property
    def http(self) -> str:
        return f"http{self._suffix}://{self._place}"

    @property
    def websocket(self) -> str:
        return f"ws{self._suffix}://{self._place}{WEBSOCKET}"


def locate(settings: Settings, url: str | None) -> str:
    """The WebSocket address: of what the settings serve, of a gateway, or one that is a WebSocket's already."""
    if url is not None and url.startswith(("ws://", "wss://")):
        return url
    return websocket_url(settings) if url is None else GatewayAddress(url).websocket
