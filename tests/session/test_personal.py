"""Personal channels: each belongs to one user, whatever its id."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.core.cluster import SubscribeUser
from tests.session.rig import HISTORY, Rig
from tests.test_channels import EVERYTHING, IDS

LONG, ODD = "x" * 300, "größe ,#:"


async def rig_with(options: Mapping[str, Any], namespace: str = "", *, insecure: bool = False) -> Rig:
    """Users have channels of their own, where the options are these."""
    named = [{"name": "dm", **options}, {"name": "closed"}, {"name": "room"}]
    return await Rig.open(
        insecure=insecure,
        subscribe_to_user_personal_channel={"enabled": True, "personal_channel_namespace": namespace},
        channel={"without_namespace": options, "namespaces": named},
    )


@pytest.mark.parametrize("namespace", ["", "dm"])
@pytest.mark.parametrize("user", IDS)
async def test_every_user_has_one_and_uses_it(namespace: str, user: str) -> None:
    members = {f"allow_{what}_for_subscriber": True for what in ("publish", "presence", "history")}
    rig = await rig_with({"presence": True, "force_recovery": True, **HISTORY, **members}, namespace)
    name = f"dm:#{user}" if namespace else f"#{user}"
    client = rig.client()
    assert list((await client.connect(token=rig.token(user)))["subs"]) == [name]
    await rig.publish(name, "from above")
    assert await client.ask("publish", channel=name, data="from myself") == {"publish": {}}
    assert client.data() == ["from above", "from myself"]
    assert len((await client.ask("presence", channel=name))["presence"]["presence"]) == 1
    assert (await client.ask("history", channel=name, limit=-1))["history"]["offset"] == 2
    assert await client.refused("subscribe", channel=name) == 105

    await client.leave()
    position = await rig.position(name)
    since = {"recover": True, "epoch": position.epoch, "offset": 1}
    again = await rig.client().connect(token=rig.token(user), subs={name: since})
    assert [each["data"] for each in again["subs"][name]["publications"]] == ["from myself"]

    for mallory in {*user.split(","), *user.split("#"), *user.split(":"), "mallory"} - {user, ""}:
        other = await rig.connected(mallory, subs={name: {}})
        assert name not in other.session.subscriptions
        assert await other.refused("subscribe", channel=name) in (103, 107)


@pytest.mark.parametrize("options", [{}, {"allow_user_limited_channels": True}, EVERYTHING])
@pytest.mark.parametrize("insecure", [False, True])
async def test_nobody_else_subscribes(options: dict[str, bool], insecure: bool) -> None:
    rig = await rig_with({**options, **HISTORY}, insecure=insecure)
    owners = {user: await rig.connected(user) for user in ("alice", "smith,john", "org#7")}
    await rig.publish("#alice", "for alice alone")
    for user in ("eve", "smith", "john", "7", "org", ""):
        names = [f"#{owner}" for owner in owners]
        other = await rig.connected(user, subs={name: {} for name in names})
        assert [await other.refused("subscribe", channel=name) for name in names] == [103] * len(names)
        if not insecure:
            assert await other.refused("history", channel="#alice") == 103
        await rig.publish("#smith,john", "for one")
        assert other.take() == []
    assert owners["smith,john"].data() == ["for one"] * 6


async def test_the_backend_may_let_others_in() -> None:
    """A token and the server API decide alone, as everywhere."""
    rig = await rig_with({})
    client = rig.client()
    await client.connect(token=rig.token("bob", channels=["#alice"]))
    await client.subscribe("#carol", token=rig.channel_token("#carol", "bob"))
    rig.control(SubscribeUser(user="bob", channel="#dave"))
    await rig.settle()
    assert set(client.session.subscriptions) == {"#bob", "#alice", "#carol", "#dave"}


@pytest.mark.parametrize("name", [f"closed:{LONG}", f"closed:{ODD}"])
async def test_tokens_and_the_server_name_what_commands_may_not(name: str) -> None:
    rig = await Rig.open()
    by_token = rig.client()
    assert list((await by_token.connect(token=rig.token(channels=[name])))["subs"]) == [name]
    by_api = await rig.connected("bob")
    rig.control(SubscribeUser(user="bob", channel=name))
    await rig.settle()
    await rig.publish(name, 1)
    assert [by_token.data(), [push for push in by_api.take() if "pub" in push]] == [
        [1],
        [{"channel": name, "pub": {"data": 1}}],
    ]

    other = await rig.connected("carol", subs={name: {}})
    assert not other.session.subscriptions
    for command in ("subscribe", "publish", "presence", "history"):
        data = {"data": 1} if command == "publish" else {}
        assert await other.refused(command, channel=name, **data) == 107
    assert await by_token.refused("publish", channel=name, data=1) == 103
    assert await by_token.ask("unsubscribe", channel=name) == {"unsubscribe": {}}
    assert await by_token.refused("subscribe", channel=name) == 107


@pytest.mark.parametrize("what", ["publish", "presence", "history"])
async def test_nobody_else_publishes_there_or_reads(what: str) -> None:
    rig = await rig_with({"presence": True, **HISTORY, **{f"allow_{each}_for_client": True for each in EVERYBODY}})
    alice, eve = await rig.connected("alice"), await rig.connected("eve")
    data = {"data": "from eve"} if what == "publish" else {}
    assert await eve.refused(what, channel="#alice", **data) == 103
    assert alice.take() == []
    assert what in await alice.ask(what, channel="#alice", **data)


EVERYBODY = ("publish", "presence", "history")
