"""What nodes tell of themselves, and channels of their nodes."""

from typing import Any

import pytest

from gateway.admin.channel import CHANNEL
from gateway.admin.connections import CONNECTIONS
from gateway.admin.nodes import NODE
from gateway.admin.recording import RECORDING, RECORDINGS
from gateway.health import Condition
from gateway.metrics import SECONDS
from tests.admin.ground import Ground


async def test_every_node_tells_how_it_is(ground: Ground) -> None:
    client = await ground.kit.connect(token=ground.kit.token("ann"), node=1)
    await client.subscribe("news")
    await ground.kit.gateway.publish("news", 1)
    await ground.kit.wait_idle()
    found = await ground.result("nodes")
    assert found["missing"] == []
    assert [each["name"] for each in found["nodes"]] == sorted(node.describe().name for node in ground.nodes)
    first, second = sorted(found["nodes"], key=lambda each: each["uid"] == ground.nodes[1].uid)
    assert (first["connections"], first["publications_in"], first["deliveries"]) == (0, 1, 0)
    assert {name: second[name] for name in ("connections", "users", "subscriptions", "channels")} == dict.fromkeys(
        ("connections", "users", "subscriptions", "channels"), 1
    )
    assert (second["publications_in"], second["publications_out"], second["deliveries"]) == (0, 1, 1)
    assert (second["slow"], second["queued"], second["connection_limit"]) == (0, 0, 0)
    assert second["bytes_in"] > 0 < second["bytes_out"]
    for each in (first, second):
        assert each["rss"] > 1_000_000
        assert each["cpu"] > 0 < each["descriptors"] < each["descriptor_limit"]
        for name in ("loop_lag", "delivery_lag"):
            assert (each[name]["bounds"], len(each[name]["counts"])) == (list(SECONDS), len(SECONDS) + 1)
        assert (each["status"], each["reasons"]) == ("ok", [])
        assert each["at"] == ground.kit.clock()


async def test_what_is_wrong_with_a_node_is_told(ground: Ground) -> None:
    node = ground.nodes[1]
    node.conditions.append(lambda: Condition("full", "no more is let in", "full"))
    node.warnings.append("look after it")
    [each] = [each for each in (await ground.result("nodes"))["nodes"] if each["uid"] == node.uid]
    assert each["status"] == "full"
    assert each["reasons"] == [
        {"reason": "full", "text": "no more is let in"},
        {"reason": "warning", "text": "look after it"},
    ]


async def test_a_node_that_says_nothing_is_named(ground: Ground) -> None:
    ground.nodes[1].answers.clear()
    found = await ground.result("nodes")
    assert [each["uid"] for each in found["nodes"]] == [ground.nodes[0].uid]
    assert found["missing"] == [ground.nodes[1].describe().name]


@pytest.mark.parametrize(
    ("kind", "method", "body"),
    [
        (NODE, "nodes", {}),
        (CONNECTIONS, "connections", {}),
        (CHANNEL, "channel", {"channel": "news"}),
        (RECORDINGS, "recordings", {}),
        (RECORDING, "recording", {"what": "user", "name": "ann"}),
    ],
)
async def test_a_node_whose_answer_nobody_can_read_is_named(
    ground: Ground, kind: str, method: str, body: dict[str, Any]
) -> None:
    async def another_release(_argument: str) -> bytes:
        return b'{"what": '

    ground.nodes[1].answers[kind] = another_release
    assert (await ground.result(method, **body))["missing"] == [ground.nodes[1].describe().name]


# — channels —


async def test_a_channel_with_its_subscribers_by_node(ground: Ground) -> None:
    for node, count in ((0, 1), (1, 3)):
        for _ in range(count):
            await (await ground.kit.connect(node=node)).subscribe("kept:a")
    found = await ground.result("channel", channel="kept:a")
    options = found.pop("options")
    assert (options["history_size"], options["history_ttl"], options["presence"]) == (10, 60, False)
    assert "name" not in options
    a, b = ground.nodes
    assert found == {
        "channel": "kept:a",
        "namespace": "kept",
        "subscribers": [
            {"node": b.uid, "name": b.describe().name, "count": 3},
            {"node": a.uid, "name": a.describe().name, "count": 1},
        ],
        "missing": [],
    }


async def test_a_channel_of_the_program_or_of_no_namespace(ground: Ground) -> None:
    game = await ground.result("channel", channel="game:7")
    assert (game["route"], "namespace" in game) == ("game:{room}", False)
    news = await ground.result("channel", channel="news")
    assert (news["namespace"], "route" in news) == ("", False)
    assert [each["count"] for each in news["subscribers"]] == [0, 0]
    ground.nodes[1].answers.clear()
    assert (await ground.result("channel", channel="news"))["missing"] == [ground.nodes[1].describe().name]


async def test_a_name_that_is_no_channels(ground: Ground) -> None:
    assert (await ground.error("channel"))["code"] == 107
    assert (await ground.error("channel", channel="nowhere:a"))["code"] == 102


# — the rest —


async def test_settings_say_where_they_come_from(ground: Ground) -> None:
    found = {each["key"]: each for each in (await ground.result("settings"))["settings"]}
    assert found["admin.password"] == {
        "key": "admin.password",
        "value": "***",
        "default": False,
        "origin": "program",
    }
    assert found["http_server.port"]["origin"] == "default"


async def test_the_server_api_is_there_too(ground: Ground) -> None:
    client = await ground.kit.connect(node=1)
    subscription = await client.subscribe("kept:a")
    await ground.result("publish", channel="kept:a", data={"n": 1})
    assert (await subscription.next()).data == {"n": 1}
    assert len((await ground.result("history", channel="kept:a", limit=5))["publications"]) == 1
    assert (await ground.result("channels"))["channels"] == {"kept:a": {"num_clients": 1}}
    await ground.result("history_remove", channel="kept:a")
