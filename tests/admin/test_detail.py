"""One connection on another node: what is known of it, and its end."""

import json
from typing import Any

import pytest

from gateway.admin import detail
from gateway.admin.detail import LARGEST_INFO, tell_connection
from gateway.core.survey import PAGE_BYTES
from gateway.session import Session
from gateway.testing import Disconnected, Kit
from tests.admin.ground import Ground, create_app
from tests.waiting import until


async def test_all_that_is_known_of_a_connection(ground: Ground) -> None:
    kit, uid = ground.kit, ground.nodes[1].uid
    expire_at = int(kit.clock()) + 3600
    token = kit.token("ann", exp=expire_at, info={"name": "Ann"}, channels=["mine"])
    client = await kit.connect(token=token, node=1)
    await client.subscribe("kept:a")
    await client.subscribe("game:1")
    await kit.nodes[1].gateway.publish("kept:a", {"n": 1})
    await kit.wait_idle()
    found = await ground.result("connection", node=uid, client=client.id)
    epoch = client.subscriptions["kept:a"].since["epoch"]
    assert found.pop("connection") == (await ground.result("connections"))["connections"][0]
    assert found == {
        "expire_at": expire_at,
        "user_agent": "",
        "info": {"name": "Ann"},
        "subscriptions": [
            {
                "channel": "game:1",
                "state": "live",
                "server_side": False,
                "positioned": False,
                "recoverable": False,
            },
            {
                "channel": "kept:a",
                "state": "live",
                "server_side": False,
                "positioned": True,
                "recoverable": True,
                "offset": 1,
                "epoch": epoch,
            },
            {
                "channel": "mine",
                "state": "live",
                "server_side": True,
                "positioned": False,
                "recoverable": False,
            },
        ],
        "cursor": "",
    }


async def test_what_a_client_calls_itself_is_told(ground: Ground) -> None:
    client = await ground.kit.connect(headers={"User-Agent": "Browser/1"})
    found = await ground.result("connection", node=ground.nodes[0].uid, client=client.id)
    assert found["user_agent"] == "Browser/1"


async def test_it_is_kept_only_where_operators_may_ask() -> None:
    async with Kit(lambda: create_app({"admin": {"enabled": False}})) as kit:
        await kit.connect(headers={"User-Agent": "Browser/1"})
        [session] = kit.nodes[0].gateway.node.hub.connections.values()
        assert isinstance(session, Session)
        assert session.user_agent == ""


async def test_a_plain_one_has_no_more_than_it_has(ground: Ground) -> None:
    await ground.kit.websocket("/plain", query={"user": "cleo"})
    [one] = (await ground.result("connections"))["connections"]
    found = await ground.result("connection", node=one["node"], client=one["client"])
    assert (found["connection"], found["info"], found["expire_at"]) == (one, None, 0)
    assert [each["channel"] for each in found["subscriptions"]] == ["news"]


async def test_many_subscriptions_come_in_pages(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "PAGE_BYTES", 3_000)
    client = await ground.kit.connect()
    names = sorted(f"channel {number}" for number in range(60))
    for name in names:
        await client.subscribe(name)
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor or not pages:
        found = await ground.result("connection", node=ground.nodes[0].uid, client=client.id, cursor=cursor)
        seen += [each["channel"] for each in found["subscriptions"]]
        cursor, pages = found["cursor"], pages + 1
    assert seen == names
    assert pages > 2


async def test_an_answer_is_one_message(ground: Ground) -> None:
    client = await ground.kit.connect(token=ground.kit.token("\N{SNOWMAN}" * 1_000))
    session = ground.nodes[0].hub.connections[client.id]
    assert isinstance(session, Session)
    for number in range(128):
        await client.subscribe(f"{number}" + "x" * 250)
    for size in (LARGEST_INFO - 2, LARGEST_INFO + 100):
        session.info = b'"%b"' % (b"i" * size)  # type: ignore[assignment]  # bytes are as good
        body = await tell_connection(ground.nodes[0], json.dumps({"client": client.id}))
        assert len(body) <= PAGE_BYTES + 300  # a name, as cursor
        assert (json.loads(body)["info"] == "too large to be shown") is (size > LARGEST_INFO)
        assert json.loads(body)["connection"]["user"] == "\N{SNOWMAN}" * 1_000


# — the end —


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({}, 3011, "force reconnect"),
        ({"reconnect": True}, 3011, "force reconnect"),
        ({"reconnect": False}, 3503, "force disconnect"),
        ({"code": 4001, "reason": "go"}, 4001, "go"),
    ],
)
async def test_a_connection_is_closed_on_another_node(
    ground: Ground, body: dict[str, Any], code: int, reason: str
) -> None:
    clients = [await ground.kit.connect(node=1) for _ in range(2)]
    uid = ground.nodes[1].uid
    assert await ground.result("close", node=uid, client=clients[0].id, **body) == {}
    with pytest.raises(Disconnected) as ended:
        await clients[0].publish("news", 1)
    assert (ended.value.code, ended.value.reason) == (code, reason)
    await until(lambda: list(ground.nodes[1].hub.connections) == [clients[1].id])


async def test_what_cannot_be_said_is_not(ground: Ground) -> None:
    client = await ground.kit.connect()
    for body in ({"code": 1000}, {"reason": "x" * 200}, {"code": 5000}):
        error = await ground.error("close", node=ground.nodes[0].uid, client=client.id, **body)
        assert (error["code"], "for example" in error["message"]) == (107, True)
    for method in ("close", "connection"):
        for names in ({"node": ground.nodes[0].uid}, {"client": client.id}):
            assert (await ground.error(method, **names))["code"] == 107


async def test_one_that_has_gone_is_not_found(ground: Ground) -> None:
    here = await ground.kit.connect()
    for method in ("connection", "close"):
        for node in (ground.nodes[1].uid, "gone"):
            found = await ground.error(method, node=node, client=here.id)
            assert found == {"code": 104, "message": "not found"}


async def test_a_node_that_does_not_answer_is_to_be_tried_again(ground: Ground) -> None:
    ground.nodes[1].answers.clear()
    for method in ("connection", "close"):
        error = await ground.error(method, node=ground.nodes[1].uid, client="x")
        assert (error["code"], error["temporary"]) == (100, True)
        assert ground.nodes[1].describe().name in error["message"]
