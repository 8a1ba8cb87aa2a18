"""Sign-in."""

import json

import pytest

from gateway.apps.signatures import sign
from tests.session.pusher.rig import KEY, SECRET, PusherClient, PusherRig, ack, error, event


def success(text: str) -> dict[str, object]:
    return {"event": "pusher:signin_success", "data": {"user_data": text}}


async def signing(client: PusherClient, text: str, secret: str = SECRET) -> list[dict[str, object]]:
    auth = f"{KEY}:{sign(secret, client.session.client, '', 'user', '', text)}"
    return await client.send("pusher:signin", {"auth": auth, "user_data": text})


async def test_the_text_comes_back_as_it_was() -> None:
    client = (await PusherRig.start()).enter()
    text = '{"id": "17",  "user_info":{"name":"No\\u00f6r"}, "more":1}'
    assert await signing(client, text) == [success(text)]
    assert client.rig.node.hub.of_user("17") == [client.session]
    assert client.rig.node.hub.of_user("") == []


BAD = [
    "{",
    "[]",
    "{}",
    '{"id":17}',
    '{"id":""}',
    '{"id":"a b"}',
    '{"id":"%s"}' % ("x" * 201),
    '{"id":"17","watchlist":"23"}',
    '{"id":"17","user_info":"Noor"}',
]


@pytest.mark.parametrize("text", BAD)
async def test_what_names_no_user(text: str) -> None:
    client = (await PusherRig.start()).enter()
    [told] = await signing(client, text)
    assert told["event"] == "pusher:error"
    assert (client.session.user, client.closed) == ("", None)


async def test_another_signature() -> None:
    client = (await PusherRig.start()).enter()
    [told] = await signing(client, '{"id":"17"}', "another secret")
    assert told["event"] == "pusher:error"
    assert client.session.user == ""


async def test_apps_without() -> None:
    client = (await PusherRig.start(enable_user_authentication=False)).enter()
    assert await client.sign_in("17") == [error(None, "signing in is not enabled for the app")]


async def test_twice_as_the_same_and_never_as_another() -> None:
    rig = await PusherRig.start(client={"user_connection_limit": 1})
    client = rig.enter()
    for _ in range(2):
        assert await signing(client, '{"id":"17"}') == [success('{"id":"17"}')]
    assert await client.sign_in("23") == [error(None, "the connection is signed in as another user")]
    assert client.session.user == "17"
    assert await rig.enter().sign_in("17") == [error(None, "the user has too many connections")]


async def test_blocked_users() -> None:
    rig = await PusherRig.start()
    rig.node.blocked.on_block("17", 60)
    client = rig.enter()
    await client.sign_in("17")
    assert client.closed is not None
    assert client.closed[0] == 4009


async def test_all_connections_of_a_user_have_its_inbox() -> None:
    rig = await PusherRig.start()
    clients = [rig.enter(), rig.enter()]
    for each in clients:
        await each.sign_in("17")
        assert await each.subscribe("#server-to-user-17") == [ack("#server-to-user-17")]
    await rig.say("#17", "1")
    for each in clients:
        assert each.take() == [event("#server-to-user-17", "1")]


async def test_in_presence_is_who_signs_in_where_watchlists_are() -> None:
    for watched, expected in ((True, ["17"]), (False, [])):
        rig = await PusherRig.start(enable_watchlists=watched)
        client = rig.enter()
        await client.sign_in("17")
        await client.subscribe("#server-to-user-17")
        members = await rig.presence.members("shop:#17")
        assert [each.user for each in members.values()] == expected
        await client.send("pusher:unsubscribe", {"channel": "#server-to-user-17"})
        assert len(await rig.presence.members("shop:#17")) == len(expected)
        await client.leave()
        await rig.assert_empty()


async def test_a_watchlist_that_is_too_long() -> None:
    rig = await PusherRig.start(enable_watchlists=True)
    client = rig.enter()
    found = await client.sign_in("17", watchlist=[str(each) for each in range(101)])
    assert [each["event"] for each in found] == [
        "pusher:signin_success",
        "pusher:error",
        "pusher_internal:watchlist_events",
    ]
    assert found[1]["data"]["code"] == 4302
    [offline] = found[2]["data"]["events"][-1:]
    # who signs in is online by then, and on the list
    told = {each["name"]: len(each["user_ids"]) for each in found[2]["data"]["events"]}
    assert sum(told.values()) == 100
    assert "100" not in json.dumps(offline)
