"""Settings of backends that decide events: what is wrong with them, and what is shown of them."""

import json
from typing import Any

import pytest

from gateway.config.backends import find_asked
from gateway.config.contradictions import find_problems, find_warnings
from gateway.config.listing import list_settings
from gateway.config.settings import Settings
from gateway.config.sources import load, show

URL = "http://127.0.0.1:3000"
NAMED = {"name": "other", "endpoint": URL}


def of(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def connect(**proxy: Any) -> Settings:
    return of(client={"proxy": {"connect": {"enabled": True, "endpoint": URL, **proxy}}})


def room(**options: Any) -> dict[str, Any]:
    return {"namespaces": [{"name": "room", **options}]}


def meaning(**found: Any) -> dict[str, Any]:
    return {"status_to_code_transforms": [{"status_code": 403, **found}]}


RIGHT = [
    of(),
    connect(),
    connect(endpoint="https://example.com:8443/x?y=1", http_headers=["Cookie", "X-Forwarded-For"]),
    connect(http=meaning(to_error={"code": 403})),
    of(channel={"proxy": {"subscribe": {"endpoint": URL}}, **room(subscribe_proxy_enabled=True)}),
    of(channel=room(publish_proxy_enabled=True, publish_proxy_name="other"), proxies=[NAMED]),
    of(rpc={"without_namespace": {"proxy_enabled": True, "proxy_name": "other"}}, proxies=[NAMED]),
]


@pytest.mark.parametrize("settings", RIGHT)
def test_what_is_right(settings: Settings) -> None:
    assert not list(find_problems(settings))


HEADER = "is about one message"


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        (connect(endpoint=""), "client.proxy.connect.enabled", "needs client.proxy.connect.endpoint, for example"),
        (connect(endpoint="127.0.0.1:3000"), "client.proxy.connect.endpoint", "is no URL of http or https"),
        (connect(endpoint="grpc://127.0.0.1:3000"), "client.proxy.connect.endpoint", "GRPC is not spoken"),
        (connect(endpoint="http://"), "client.proxy.connect.endpoint", "is no URL"),
        (connect(endpoint="http://a b/"), "client.proxy.connect.endpoint", "is no URL"),
        (connect(endpoint="http://[::1/"), "client.proxy.connect.endpoint", "is no URL"),
        (connect(endpoint="http://u:p@host/"), "client.proxy.connect.endpoint", "write an Authorization header in"),
        (connect(http_headers=["Cookie:"]), "client.proxy.connect.http_headers", "is no name of a header"),
        (connect(http_headers=["Content-Length"]), "client.proxy.connect.http_headers", HEADER),
        (connect(emulated_headers=["host"]), "client.proxy.connect.emulated_headers", HEADER),
        (connect(http={"static_headers": {"Upgrade": "x"}}), "client.proxy.connect.http.static_headers", HEADER),
        (connect(http={"static_headers": {"X": "a\nb"}}), "client.proxy.connect.http.static_headers", "a line break"),
        (connect(http=meaning()), "client.proxy.connect.http.status_to_code_transforms.0", "needs either to_error"),
        (
            connect(http=meaning(to_error={"code": 1}, to_disconnect={"code": 4000})),
            "client.proxy.connect.http.status_to_code_transforms.0",
            "needs either to_error",
        ),
        (
            connect(http=meaning(to_disconnect={"code": 403})),
            "client.proxy.connect.http.status_to_code_transforms.0.to_disconnect.code",
            "must lie between 3000 and 4999",
        ),
        (
            connect(http={"status_to_code_transforms": [{"status_code": 200, "to_error": {"code": 1}}]}),
            "client.proxy.connect.http.status_to_code_transforms.0.status_code",
            "200 is an answer",
        ),
        (
            of(channel=room(subscribe_proxy_enabled=True)),
            "channel.namespaces.0.subscribe_proxy_enabled",
            "needs channel.proxy.subscribe.endpoint",
        ),
        (
            of(channel=room(sub_refresh_proxy_enabled=True, sub_refresh_proxy_name="nope"), proxies=[NAMED]),
            "channel.namespaces.0.sub_refresh_proxy_name",
            'there is no "nope" in proxies',
        ),
        (
            of(channel={"without_namespace": {"publish_proxy_enabled": True}}),
            "channel.without_namespace.publish_proxy_enabled",
            "needs channel.proxy.publish.endpoint",
        ),
        (
            of(channel=room(cache_empty_proxy_enabled=True, cache_empty_proxy_name="other"), proxies=[NAMED]),
            "channel.namespaces.0.cache_empty_proxy_enabled",
            "needs a cache",
        ),
        (
            of(rpc={"without_namespace": {"proxy_enabled": True}}),
            "rpc.without_namespace.proxy_enabled",
            "needs rpc.proxy",
        ),
        (
            of(rpc={"namespaces": [{"name": "orders", "proxy_enabled": True, "proxy_name": "nope"}]}),
            "rpc.namespaces.0.proxy_name",
            'there is no "nope"',
        ),
        (of(proxies=[NAMED, NAMED]), "proxies.1.name", "is there twice"),
        (of(proxies=[{"name": "default", "endpoint": URL}]), "proxies.0.name", "stands with its event"),
        (of(proxies=[{"name": "other"}]), "proxies.0.endpoint", "is needed"),
    ],
)
def test_what_is_wrong(settings: Settings, key: str, text: str) -> None:
    (problem,) = find_problems(settings)
    assert problem.key == key
    assert text in problem.text


def test_without_the_http_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.contradictions.find_spec", lambda _name: None)
    (problem,) = find_problems(connect())
    assert (problem.key, problem.text) == (
        "client.proxy.connect.endpoint",
        'needs an HTTP client: pip install "wsgateway[proxy]"',
    )
    assert not list(find_problems(of()))


def test_a_backend_is_a_way_in() -> None:
    nobody = "nobody can connect"
    assert any(each.startswith(nobody) for each in find_warnings(of()))
    assert not any(each.startswith(nobody) for each in find_warnings(connect()))


def test_what_is_asked() -> None:
    settings = of(
        client={"proxy": {"refresh": {"enabled": True, "endpoint": URL}}},
        channel={
            "proxy": {"publish": {"endpoint": URL}},
            **room(publish_proxy_enabled=True, map={"remove_proxy_enabled": True, "remove_proxy_name": "other"}),
        },
        rpc={"namespaces": [{"name": "orders", "proxy_enabled": True, "proxy_name": "other"}]},
        proxies=[NAMED],
    )
    assert [(each.event, each.name, each.switch) for each in find_asked(settings)] == [
        ("refresh", "default", "client.proxy.refresh.enabled"),
        ("publish", "default", "channel.namespaces.0.publish_proxy_enabled"),
        ("map_remove", "other", "channel.namespaces.0.map.remove_proxy_enabled"),
        ("rpc", "other", "rpc.namespaces.0.proxy_enabled"),
    ]


def test_secrets_are_shown_nowhere(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    headers = {"Authorization": "hidden", "X-Key_file": str(tmp_path / "secret")}
    proxy = {"endpoint": "http://127.0.0.1/?password=hidden", "http": {"static_headers": headers}}
    file = tmp_path / "gateway.json"
    connect = {"enabled": True, **proxy}
    file.write_text(json.dumps({"client": {"proxy": {"connect": connect}}, "proxies": [{"name": "other", **proxy}]}))
    settings = load(file, environ={})
    assert settings.client.proxy.connect.http.static_headers == {"Authorization": "hidden", "X-Key": "hidden"}
    for text in (show(settings), repr(settings), str(list_settings(settings))):
        assert "hidden" not in text
        assert "Authorization" in text or "***" in text


def test_headers_by_the_environment() -> None:
    variables = {
        "GATEWAY_CLIENT__PROXY__CONNECT__ENABLED": "true",
        "GATEWAY_CLIENT__PROXY__CONNECT__ENDPOINT": URL,
        "GATEWAY_CLIENT__PROXY__CONNECT__HTTP_HEADERS": "Cookie,Origin",
        "GATEWAY_CLIENT__PROXY__CONNECT__HTTP__STATIC_HEADERS": '{"X-Key": "1"}',
        "GATEWAY_PROXIES": '[{"name": "other", "endpoint": "http://127.0.0.1/"}]',
    }
    settings = load(environ=variables)
    assert settings.client.proxy.connect.http_headers == ("Cookie", "Origin")
    assert settings.client.proxy.connect.http.static_headers == {"X-Key": "1"}
    assert [each.name for each in settings.proxies] == ["other"]
