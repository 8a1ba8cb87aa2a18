"""What a database knows of channels is what the gateway knows of them."""

from typing import Any

import pytest

from gateway.brokers.base import StreamOptions
from gateway.channels import Channels
from gateway.config.settings import ChannelOptions, Settings
from gateway.errors import Error
from gateway.program.routes.patterns import Pattern
from gateway.program.routes.route import Route
from gateway.program.routes.rules import stream_rules
from tests.postgres_server import PostgresServer

ROUTES = [
    Route(Pattern(text), ChannelOptions(history_size=size, history_ttl=60.0))
    for size, text in enumerate(
        ["chat:{room}", "orders:{id:int}", "files:{path:path}", "$mine:{x}", "{user}", "a.b-c:{x:uuid}", "dm:#{x}"], 1
    )
]

NAMES = [
    *("chat:lobby", "chat:", "chat:a:b", "chat:a/b", "$chat:lobby", "chat:#7", "chat:7#8,9", "chatx:lobby", "chat:ü"),
    *(
        "orders:7",
        "orders:x",
        "files:a/b:c",
        "$mine:1",
        "mine:1",
        "plain",
        "$plain",
        "#7",
        "#a:b",
        "a.b-c:x",
        "aXb-c:x",
    ),
    *("cache-a", "private-cache-", "presence-cache-a", "private-encrypted-cache-a", "my-cache-a", "cached", "$cache-a"),
    *("news:cache-a", "news:eu:cache-a", "news:cache-a:b", "$news:cache-a", "chat:private-cache-a", "orders:cache-7"),
    *("a.b-c:70717273-7475-4677-8879-808182838485", "dm:#7", "news:1", "$news:1", "new:1", "news", ":x", "shop:#7:x"),
]


APPS = [{"id": each[:4], "key": each[:4], "secret": "s", "namespace": each} for each in ("news:eu", "chat")]


@pytest.mark.parametrize("pusher", [{}, {"enabled": True}, {"enabled": True, "namespace": "news", "apps": APPS}])
@pytest.mark.parametrize("namespace", [None, "", "news"])
def test_rules_say_what_channels_say(
    postgres_server: PostgresServer, namespace: str | None, pusher: dict[str, Any]
) -> None:
    personal = {"enabled": namespace is not None, "personal_channel_namespace": namespace or ""}
    settings = Settings.model_validate(
        {
            "channel": {
                "namespaces": [{"name": "news", "history_size": 20, "history_ttl": 60, "history_meta_ttl": 100}],
                "without_namespace": {} if pusher else {"history_size": 30, "history_ttl": 60},
            },
            "pusher": pusher,
            "client": {"subscribe_to_user_personal_channel": personal},
        }
    )
    own = settings.client.subscribe_to_user_personal_channel
    channels = Channels(settings.channel, ROUTES, own, pusher=settings.pusher)
    rules = stream_rules(settings, ROUTES)
    values = ", ".join(f"({number}, '{name}')" for number, name in enumerate(NAMES))
    matching = ", ".join(f"name ~ '{rule.pattern}'" for rule in rules)
    query = f"SELECT {matching} FROM (VALUES {values}) AS names (number, name) ORDER BY number"  # noqa: S608
    for name, row in zip(NAMES, postgres_server.sql(query), strict=True):
        matches = row.split("|")
        found = rules[matches.index("t")].stream if "t" in matches else None
        assert found == expected(channels, name), name


def expected(channels: Channels, name: str) -> StreamOptions | None:
    try:
        options = channels.resolve(name).options
    except Error:
        return None
    return StreamOptions(options.history_size, options.history_ttl, options.history_meta_ttl)
