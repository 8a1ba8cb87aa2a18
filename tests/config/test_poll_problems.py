"""Channels that are polled, and what they need."""

from typing import Any

import pytest

from gateway.config.contradictions import find_problems
from gateway.config.settings import Settings

POLLED: dict[str, Any] = {"name": "poll", "subscription_type": "shared_poll"}
PROXY: dict[str, Any] = {"shared_poll_refresh": {"endpoint": "http://127.0.0.1:3000/values"}}
SIGNED: dict[str, Any] = {"hmac_secret_key": "a secret of more than thirty-two bytes, as all should be"}


@pytest.mark.parametrize(
    ("namespace", "proxy", "signed", "expected"),
    [
        (POLLED, PROXY, SIGNED, set()),
        (POLLED, PROXY, {}, {"shared_poll.hmac_secret_key"}),
        (POLLED, {}, SIGNED, {"channel.namespaces.0.shared_poll.proxy_name"}),
        (
            POLLED | {"shared_poll": {"proxy_name": "none"}},
            PROXY,
            SIGNED,
            {"channel.namespaces.0.shared_poll.proxy_name"},
        ),
        (POLLED | {"allowed_delta_types": ["fossil"]}, PROXY, SIGNED, set()),
        (POLLED | {"shared_poll": {"mode": "versioned", "publish_enabled": True}}, PROXY, SIGNED, set()),
        (
            POLLED | {"shared_poll": {"publish_enabled": True}},
            PROXY,
            SIGNED,
            {"channel.namespaces.0.shared_poll.publish_enabled"},
        ),
        (POLLED | {"history_size": 1, "history_ttl": 1}, PROXY, SIGNED, {"channel.namespaces.0.history_size"}),
    ],
)
def test_what_they_need(
    namespace: dict[str, Any], proxy: dict[str, Any], signed: dict[str, Any], expected: set[str]
) -> None:
    channel = {"namespaces": [namespace], "proxy": proxy}
    settings = Settings(client={"insecure": True}, channel=channel, shared_poll=signed)
    assert {each.key for each in find_problems(settings)} == expected
