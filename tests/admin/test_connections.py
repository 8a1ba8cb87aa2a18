"""Connections of two nodes as one list."""

from typing import Any

import pytest
from msgspec.msgpack import decode

from gateway.admin import connections as module
from gateway.admin.connections import LONGEST, Page, Search, tell_connections
from gateway.core.survey import PAGE_BYTES
from gateway.testing import Kit
from tests.admin.ground import Ground, create_app


async def all_of(ground: Ground, **body: Any) -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    pages = []
    cursor = ""
    while True:
        found = await ground.result("connections", **body, cursor=cursor)
        assert found["missing"] == []
        pages.append(found["connections"])
        cursor = found["cursor"]
        if not cursor:
            return pages


async def test_one_connection_as_it_is_told(ground: Ground) -> None:
    kit = ground.kit
    client = await kit.connect(token=kit.token("ann"), node=1)
    await client.subscribe("news")
    await client.subscribe("kept:a")
    node = ground.nodes[1]
    since = kit.clock()
    found = await ground.result("connections")
    assert found == {
        "connections": [
            {
                "client": client.id,
                "node": node.uid,
                "node_name": node.describe().name,
                "user": "ann",
                "address": "127.0.0.1",
                "protocol": "centrifuge-json",
                "transport": "websocket",
                "state": "connected",
                "since": since,
                "subscriptions": 2,
                "queued": 0,
                "round_trip": None,
            }
        ],
        "cursor": "",
        "missing": [],
    }


async def test_pages_have_those_of_all_nodes_once_and_in_order(ground: Ground) -> None:
    ids = [(await ground.kit.connect(node=number % 2)).id for number in range(23)]
    for limit, sizes in ((5, [5, 5, 5, 5, 3]), (23, [23]), (22, [22, 1]), (1, [1] * 23)):
        pages = await all_of(ground, limit=limit)
        assert [len(page) for page in pages] == sizes
        assert [each["client"] for page in pages for each in page] == sorted(ids)
    nodes = {each["client"]: each["node"] for each in pages[0]}
    assert all(ground.nodes[ids.index(client) % 2].uid == node for client, node in nodes.items())


async def test_they_can_be_narrowed(ground: Ground) -> None:
    kit = ground.kit
    ann = [(await kit.connect(token=kit.token("ann"), node=node)) for node in (0, 1, 1)]
    bob = await kit.connect(token=kit.token("bob"))
    plain = await kit.websocket("/plain", query={"user": "cleo"}, node=1)
    await ann[0].subscribe("news")
    await ann[1].subscribe("other")
    await bob.subscribe("news")
    uids = [node.uid for node in ground.nodes]

    async def users(**body: Any) -> list[str]:
        [found] = await all_of(ground, **body)
        return sorted(each["user"] for each in found)

    assert await users() == ["ann", "ann", "ann", "bob", "cleo"]
    assert await users(user="ann") == ["ann", "ann", "ann"]
    assert await users(channel="news") == ["ann", "bob", "cleo"]
    assert await users(channel="news", user="ann") == ["ann"]
    assert await users(node=uids[1]) == ["ann", "ann", "cleo"]
    assert await users(node=uids[0], user="ann") == ["ann"]
    assert await users(address="127.0.0.0/8") == ["ann", "ann", "ann", "bob", "cleo"]
    assert await users(address="127.0.0.1", user="bob") == ["bob"]
    for nobody in ({"user": "an"}, {"channel": "nowhere"}, {"address": "10.0.0.0/8"}, {"user": "bob", "node": uids[1]}):
        assert await users(**nobody) == []
    [one] = (await ground.result("connections", user="cleo"))["connections"]
    assert (one["protocol"], one["transport"], one["subscriptions"]) == ("plain-text", "websocket", 1)
    await plain.close()


async def test_what_is_wrong_with_an_address_is_told(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """By the node that is asked; the others do not hear of it."""
    assert (await ground.error("connections", address="10.0.0.0/99"))["code"] == 107
    await ground.kit.wait_idle()
    assert not caplog.records


async def test_the_programs_own_listeners_are_no_connections(ground: Ground) -> None:
    async with ground.kit.gateway.listen("news"):
        assert await all_of(ground, channel="news") == [[]]
        assert await all_of(ground, channel="news", address="127.0.0.0/8") == [[]]


async def test_a_round_trip_is_that_of_the_last_ping(ground: Ground) -> None:
    client = await ground.kit.connect()
    await ground.kit.clock.advance(40)
    [one] = (await ground.result("connections"))["connections"]
    assert one["client"] == client.id
    assert one["round_trip"] == pytest.approx(0, abs=0.2)


async def test_a_node_that_has_gone_is_named(ground: Ground) -> None:
    here = await ground.kit.connect()
    await ground.kit.connect(node=1)
    found = await ground.result("connections", node="gone")
    assert found == {"connections": [], "cursor": "", "missing": ["gone"]}
    ground.nodes[1].answers.clear()  # as of the release before
    found = await ground.result("connections")
    assert [each["client"] for each in found["connections"]] == [here.id]
    assert found["missing"] == [ground.nodes[1].describe().name]


async def test_while_the_broker_is_away_the_node_tells_of_itself(ground: Ground) -> None:
    here = await ground.kit.connect()
    await ground.kit.connect(node=1)
    ground.kit.broker.kill()
    found = await ground.result("connections")
    ground.kit.broker.restore()
    assert [each["client"] for each in found["connections"]] == [here.id]
    assert found["missing"] == [ground.nodes[1].describe().name]


async def test_long_names_are_cut(ground: Ground) -> None:
    name = "\N{SNOWMAN}" * 200
    await ground.kit.connect(token=ground.kit.token(name))
    [one] = (await ground.result("connections", user=name))["connections"]
    assert one["user"] == name[:LONGEST] + "…"


async def test_what_a_node_cannot_tell_in_one_message_comes_with_the_next(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what lies beyond it nothing is told, so that no page lacks anybody."""
    monkeypatch.setattr(module, "PAGE_BYTES", 400)
    long = ground.kit.token("x" * 100)
    ids = [(await ground.kit.connect(token=long if number % 3 else "", node=number % 2)).id for number in range(20)]
    pages = await all_of(ground, limit=15)
    assert [each["client"] for page in pages for each in page] == sorted(ids)
    assert len(pages) > 3


async def test_an_answer_is_one_message(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await ground.kit.connect(token=ground.kit.token("\N{SNOWMAN}" * 200))

    async def find(*_: object, **__: object) -> list[str]:
        return [client.id] * 201

    monkeypatch.setattr(module, "find_clients", find)
    body = await tell_connections(ground.nodes[0], '["","","",200,""]')
    assert 59_000 < len(body) <= PAGE_BYTES + 100
    assert len(decode(body, type=Page).rows) < 200
    assert decode(body, type=Page).last == client.id


async def test_one_that_goes_while_others_are_looked_at(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = sorted([(await ground.kit.connect()).id for _ in range(3)])

    async def find(*_: object, **__: object) -> list[str]:
        return ["gone", *clients]

    monkeypatch.setattr(module, "find_clients", find)
    page = decode(await tell_connections(ground.nodes[0], '["","","",2,""]'), type=Page)
    assert ([row.client for row in page.rows], page.last) == ([clients[0]], clients[0])


def test_a_question_of_a_later_release_may_have_more() -> None:
    assert module._decode_search('["u","c","a",5,"x","more"]') == Search("u", "c", "a", 5, "x")


async def test_nodes_answer_whether_they_have_a_page_or_not() -> None:
    apps = iter([{}, {"admin": {"enabled": False}}])
    async with Kit(lambda: create_app(next(apps)), nodes=2) as kit:
        ground = Ground(kit)
        await ground.log_in()
        client = await kit.connect(node=1)
        assert [each["client"] for each in (await ground.result("connections"))["connections"]] == [client.id]
        assert (await kit.nodes[1].http.get("/admin/")).status_code == 404
