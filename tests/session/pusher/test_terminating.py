"""Ending connections: a user's, and those to apps that are gone."""

from typing import Any

import pytest

from gateway.config.settings import PusherSettings
from gateway.session.pusher.terminating import NOTICE, close_gone, notice
from tests.session.pusher.rig import APP, PusherRig, error
from tests.session.rig import Client


async def test_connections_that_are_signed_in_to_the_app_end() -> None:
    rig = await PusherRig.start()
    mine, again, other, member = [rig.enter() for _ in range(4)]
    for each in (mine, again):
        await each.sign_in("17")
    await other.sign_in("23")
    await member.join("presence-desk", "17")
    await rig.node.cluster.notify(NOTICE, notice("another app", "17"))
    assert mine.closed is None
    await rig.node.cluster.notify(NOTICE, notice("9001", "17"))
    for each in (mine, again):
        assert (each.take(), each.closed) == (
            [error(4009, "ended by the application")],
            (4009, "ended by the application"),
        )
    assert other.closed is member.closed is None


async def test_clients_of_other_protocols_and_nobody_are_left_alone() -> None:
    rig = await PusherRig.start()
    client = rig.enter()
    centrifuge: Client = rig.client()
    centrifuge.session.user = "17"
    rig.node.hub.open(centrifuge.session)
    for text in (notice("9001", "17"), notice("9001", ""), "{", "[]"):
        await rig.node.cluster.notify(NOTICE, text)
    assert client.closed is centrifuge.closed is None


@pytest.mark.parametrize(
    ("apps", "closed"),
    [
        ([APP | {"max_connections": 7}], None),
        ([APP | {"enabled": False}], (4003, "the app is disabled")),
        ([], (4001, "there is no such app any more")),
        ([APP | {"namespace": ""}], (4200, "the app has moved")),
    ],
)
async def test_connections_to_apps_that_are_gone_end(
    apps: list[dict[str, Any]], closed: tuple[int, str] | None
) -> None:
    rig = await PusherRig.start()
    there = rig.enter()
    centrifuge: Client = rig.client()
    rig.node.hub.open(centrifuge.session)
    rig.apps.reload(PusherSettings.model_validate({"enabled": True, "namespace": "shop", "apps": apps}))
    close_gone(rig.node, rig.apps)
    assert (there.closed, centrifuge.closed) == (closed, None)
