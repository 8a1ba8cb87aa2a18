"""What docs/proxy.md shows."""

import re
from pathlib import Path
from typing import get_args

from gateway.config.backends import CHANNEL_EVENTS, find_backends
from gateway.config.sources import load
from gateway.proxies.failures import Kind
from gateway.proxies.headers import ForwardedHeaders

PAGE = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text()


def test_settings_are_settings(tmp_path: Path) -> None:
    (tmp_path / "backend").write_text("ours")
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    found = []
    for block in blocks:
        file = tmp_path / "gateway.toml"
        file.write_text(block.replace("/run/secrets", str(tmp_path)))
        found.append(load(file, environ={}))
    first, second, headers, statuses = found
    assert [place for place, _ in find_backends(first)] == ["client.proxy.connect", "channel.proxy.subscribe"]
    assert first.channel.namespaces[0].subscribe_proxy_enabled
    assert [place for place, _ in find_backends(second)] == ["proxies.0"]
    assert second.channel.namespaces[0].publish_proxy_name == "billing"
    assert dict(ForwardedHeaders(headers.client.proxy.connect).of(None))["X-Api-Key"] == "ours"
    assert len(statuses.channel.proxy.subscribe.http.status_to_code_transforms) == 2


def test_every_event_and_every_kind_of_failure_is_told() -> None:
    for event in ("connect", "refresh", *CHANNEL_EVENTS, "rpc"):
        assert re.search(rf"^\| {event} \|", PAGE, re.MULTILINE), event
    for kind in get_args(Kind):
        assert f"`{kind}`" in PAGE, kind
