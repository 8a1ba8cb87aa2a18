"""Addresses as settings write them."""

import pytest
from pydantic import ValidationError

from gateway.config.contradictions import find_problems
from gateway.config.places import Place, authority, reachable, read_places
from gateway.config.settings import HTTPServerSettings, ServerTLSSettings, Settings
from gateway.config.sources import load
from gateway.errors import SettingsError


@pytest.mark.parametrize(
    ("written", "places"),
    [
        ("127.0.0.1", [Place("127.0.0.1", 8000)]),
        ("127.0.0.1:9000", [Place("127.0.0.1", 9000)]),
        ("localhost:0", [Place("localhost", 0)]),
        ("", [Place("", 8000)]),
        (":9000", [Place("", 9000)]),
        ("::", [Place("::", 8000)]),
        ("::1", [Place("::1", 8000)]),
        ("[::1]", [Place("::1", 8000)]),
        ("[::1]:9000", [Place("::1", 9000)]),
        ("fe80::1%eth0", [Place("fe80::1%eth0", 8000)]),
        ("unix:/run/g.sock", [Place(path="/run/g.sock")]),
        ("unix:///run/g.sock", [Place(path="/run/g.sock")]),
        (
            "127.0.0.1, [::1]:9 ,unix:/run/g.sock",
            [Place("127.0.0.1", 8000), Place("::1", 9), Place(path="/run/g.sock")],
        ),
        (("127.0.0.1", "unix:/a,b"), [Place("127.0.0.1", 8000), Place(path="/a,b")]),
        ("127.0.0.1,127.0.0.1:8000", [Place("127.0.0.1", 8000)]),
    ],
)
def test_what_is_an_address(written: str, places: list[Place]) -> None:
    assert list(read_places(written, 8000)) == places


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("http://127.0.0.1", "write 127.0.0.1, 127.0.0.1:8000"),
        ("/run/g.sock", r"or unix:/run/gateway/gateway\.sock"),
        ("unix:g.sock", "with its whole path"),
        ("unix:/run/", "with its whole path"),
        ("unix:", "with its whole path"),
        ("127.0.0.1:", "up to 65535"),
        ("127.0.0.1:x", "up to 65535"),
        ("127.0.0.1:65536", "up to 65535"),
        ("127.0.0.1:000080", "up to 65535"),
        ("127.0.0.1:²", "up to 65535"),
        ("[::1]x", "no address"),
        ("[::1", "no address"),
        ((), "must be one"),
    ],
)
def test_what_is_none(written: str, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        HTTPServerSettings(address=written)


def test_a_place_is_told_as_it_is_written() -> None:
    for text in ("127.0.0.1:9000", "[::1]:9000", "unix:/run/g.sock"):
        assert [str(place) for place in read_places(text, 1)] == [text]
    assert authority("::1", 80) == "[::1]:80"
    assert reachable("::", 80) == "[::1]:80"


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, []),
        ({"internal_port": 9}, [Place("127.0.0.1", 9)]),
        ({"internal_port": 9, "address": "0.0.0.0,[::1]:80,0.0.0.0:81"}, [Place("0.0.0.0", 9), Place("::1", 9)]),
        ({"internal_port": 9, "address": "unix:/run/g.sock"}, [Place("127.0.0.1", 9)]),
        ({"internal_address": "10.0.0.1:9"}, [Place("10.0.0.1", 9)]),
        ({"internal_address": "10.0.0.1", "internal_port": 9}, [Place("10.0.0.1", 9)]),
        ({"internal_address": "unix:/run/i.sock"}, [Place(path="/run/i.sock")]),
    ],
)
def test_where_operators_are_served(settings: dict[str, object], places: list[Place]) -> None:
    assert list(HTTPServerSettings.model_validate(settings).internal_places) == places


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        (
            {"internal_address": "10.0.0.1"},
            "internal_address",
            "needs a port: write 10.0.0.1:9000, or set internal_port",
        ),
        ({"internal_port": 8000}, "internal_port", "127.0.0.1:8000 is for clients already"),
        ({"tls": {"enabled": True}}, "tls.enabled", "needs cert_pem and key_pem"),
        ({"internal_tls": {"enabled": True, "cert_pem": "/a"}}, "internal_tls.enabled", "needs cert_pem and key_pem"),
        ({"proxy_protocol": True, "forwarded_allow_ips": " ,"}, "proxy_protocol", "nobody is trusted"),
    ],
)
def test_contradictions(settings: dict[str, object], key: str, text: str) -> None:
    http = HTTPServerSettings.model_validate(settings)
    [problem] = [each for each in find_problems(Settings(http_server=http)) if each.key.startswith("http_server")]
    assert problem.key == f"http_server.{key}"
    assert text in problem.text


@pytest.mark.parametrize(
    "settings",
    [
        {"internal_port": 0, "port": 0},
        {"proxy_protocol": True, "forwarded_allow_ips": "", "address": "unix:/run/g.sock"},
        {"proxy_protocol": True},
    ],
)
def test_no_contradictions(settings: dict[str, object]) -> None:
    http = HTTPServerSettings.model_validate(settings)
    assert not [each for each in find_problems(Settings(http_server=http)) if each.key.startswith("http_server")]


@pytest.mark.parametrize(
    ("given", "prefix"),
    [("/rt", "/rt"), ("rt", "/rt"), ("/rt/", "/rt"), ("/a/b-1~.c_", "/a/b-1~.c_"), ("/", ""), ("", "")],
)
def test_a_prefix_is_brought_into_its_form(given: str, prefix: str) -> None:
    assert HTTPServerSettings(root_path=given).root_path == prefix


@pytest.mark.parametrize("given", ["/rt?x", "/r t", "/ü", "/%20", "/rt\n"])
def test_what_is_no_prefix(given: str) -> None:
    with pytest.raises(ValidationError, match="a prefix has letters"):
        HTTPServerSettings(root_path=given)


def test_which_certificate_operators_are_shown() -> None:
    theirs, ours = (ServerTLSSettings(enabled=True, cert_pem=name, key_pem=name) for name in ("/a", "/b"))
    assert HTTPServerSettings(tls=theirs).tls_for_operators is theirs
    assert HTTPServerSettings(tls=theirs, internal_tls=ours).tls_for_operators is ours
    assert not HTTPServerSettings(tls=theirs, tls_external=True).tls_for_operators.enabled


@pytest.mark.parametrize("mode", ["660", "0660", "0777"])
def test_modes(mode: str) -> None:
    assert HTTPServerSettings(unix_socket_mode=mode).unix_socket_mode == mode


@pytest.mark.parametrize("mode", ["", "0999", "rw", "00660", "1777"])
def test_what_is_no_mode(mode: str) -> None:
    with pytest.raises(ValidationError):
        HTTPServerSettings(unix_socket_mode=mode)


@pytest.mark.parametrize(
    ("key", "written", "allowed"),
    [
        ("address", "127.0.0.1,[::1]:9000,unix:/run/g.sock", True),
        ("address", "127.0.0.1,10.0.0.1", False),
        ("internal_address", "127.0.0.1:9000", True),
        ("internal_address", "0.0.0.0:9000", False),
    ],
)
def test_dev_mode_looks_at_every_address(key: str, written: str, allowed: bool) -> None:
    flags = {f"http_server.{key}": written}
    if allowed:
        assert getattr(load(flags=flags, environ={}, dev=True).http_server, key) == written
    else:
        with pytest.raises(SettingsError, match=f"http_server.{key} .* is not a loopback address"):
            load(flags=flags, environ={}, dev=True)
