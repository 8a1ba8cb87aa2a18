"""One address for every command."""

import pytest

from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.address import GatewayAddress, locate


@pytest.mark.parametrize(
    ("text", "http", "websocket"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "ws://127.0.0.1:8000/connection/websocket"),
        ("http://a:8000/", "http://a:8000", "ws://a:8000/connection/websocket"),
        ("https://a", "https://a", "wss://a/connection/websocket"),
        ("ws://a:1", "http://a:1", "ws://a:1/connection/websocket"),
        ("wss://a/connection/websocket", "https://a", "wss://a/connection/websocket"),
        ("wss://a/rt/connection/websocket", "https://a/rt", "wss://a/rt/connection/websocket"),
        ("http://a/rt/api", "http://a/rt", "ws://a/rt/connection/websocket"),
        ("http://a/rt/api/publish", "http://a/rt", "ws://a/rt/connection/websocket"),
        ("http://a/rt/connection/uni_sse/", "http://a/rt", "ws://a/rt/connection/websocket"),
        ("http://[::1]:8000/rt/", "http://[::1]:8000/rt", "ws://[::1]:8000/rt/connection/websocket"),
        ("http://user:pw@a", "http://user:pw@a", "ws://user:pw@a/connection/websocket"),
    ],
)
def test_all_forms_are_understood(text: str, http: str, websocket: str) -> None:
    address = GatewayAddress(text)
    assert (address.http, address.websocket) == (http, websocket)


@pytest.mark.parametrize(
    "text", ["", "ftp://a", "http://", "http://a:x", "http://a:99999", "http://a?x=1", "http://a#b", "a b", "http://ü"]
)
def test_what_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="is not an address such as http://"):
        GatewayAddress(text)


def test_the_settings_say_where_it_is() -> None:
    settings = Settings.model_validate({"http_server": {"address": "::", "port": 9, "root_path": "/rt"}})
    assert locate(settings, None) == "ws://[::1]:9/rt/connection/websocket"
    assert locate(settings, "http://a") == "ws://a/connection/websocket"
    assert locate(settings, "ws://peer/of/another/kind?x=1") == "ws://peer/of/another/kind?x=1"
