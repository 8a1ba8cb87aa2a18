"""Laravel Echo over pusher-js, in Node and in a page, with its two broadcasters."""

import json
from asyncio import to_thread
from functools import partial
from types import SimpleNamespace
from typing import Any

import pusher
import pytest

from tests.integration.pusher.application import Application
from tests.integration.pusher.apps import MAIN
from tests.integration.pusher.clients import Library, Refused
from tests.integration.pusher.raw import raw
from tests.integration.servers import Cluster
from tests.ports import free_port
from tests.waiting import until

NOTIFICATION = r"Illuminate\Notifications\Events\BroadcastNotificationCreated"


def member(user: str) -> dict[str, Any]:
    return {"user_id": user, "user_info": {"id": user, "name": f"user {user}"}}


@pytest.mark.parametrize("broadcaster", ["pusher", "reverb"])
async def test_each_kind_of_channel(
    nodes: Cluster, page: Library, site: Application, backend: pusher.Pusher, name: str, broadcaster: str
) -> None:
    echo = await page.echo(nodes.balancer, broadcaster, member=member("17"))
    kinds = {"channel": name, "private": f"private-{name}", "join": f"presence-{name}"}
    for kind in kinds:
        heard = await echo.hear(kind, name, "subscribed")
        await heard.wait("subscribed")
        await echo.hear(kind, name, "listen", "OrderPaid")
        await echo.hear(kind, name, "listen", ".order.paid")
    for kind, channel in kinds.items():
        await to_thread(backend.trigger, channel, r"App\Events\OrderPaid", {"id": 7})
        await to_thread(backend.trigger, channel, "order.paid", {"id": 8})
        assert await echo.log(f"{kind} {name}").wait("OrderPaid") == {"id": 7}
        assert await echo.log(f"{kind} {name}").wait(".order.paid") == {"id": 8}
    asked = [(each.path, each.form["channel_name"]) for each in site.asked if name in each.form.get("channel_name", "")]
    assert asked == [("/broadcasting/auth", f"private-{name}"), ("/broadcasting/auth", f"presence-{name}")]


@pytest.mark.parametrize("page", ["node", "chromium-with-encryption"], indirect=True)
async def test_encrypted_private_channels(nodes: Cluster, page: Library, backend: pusher.Pusher, name: str) -> None:
    echo = await page.echo(nodes.balancer)
    heard = await echo.hear("encryptedPrivate", name, "subscribed")
    await heard.wait("subscribed")
    await echo.hear("encryptedPrivate", name, "listen", "Told")
    await to_thread(backend.trigger, f"private-encrypted-{name}", r"App\Events\Told", {"secret": "✓"})
    assert await heard.wait("Told") == {"secret": "✓"}
    with pytest.raises(Refused, match="not currently supported"):
        await echo.call("whisper", kind="encryptedPrivate", channel=name, event="x", data={})


async def test_leave_unsubscribes_all_that_are_held(
    nodes: Cluster, page: Library, backend: pusher.Pusher, name: str
) -> None:
    echo = await page.echo(nodes.balancer, member=member("17"))
    for kind in ("channel", "private", "join"):
        await (await echo.hear(kind, name, "subscribed")).wait("subscribed")
    channels = [name, f"private-{name}", f"presence-{name}"]
    for channel in channels:
        assert (await to_thread(backend.channel_info, channel))["occupied"]
    await echo.call("leave", channel=name)
    for channel in channels:
        await until(partial(_vacant, backend, channel), what=f"nobody in {channel}")


async def _vacant(backend: pusher.Pusher, channel: str) -> bool:
    return not (await to_thread(backend.channel_info, channel))["occupied"]


async def test_notifications(nodes: Cluster, page: Library, backend: pusher.Pusher, name: str) -> None:
    echo = await page.echo(nodes.balancer)
    heard = await echo.hear("private", f"App.Models.User.{name}", "subscribed")
    await heard.wait("subscribed")
    await echo.hear("private", f"App.Models.User.{name}", "notification")
    data = {"id": "b6f1", "type": r"App\Notifications\Paid", "amount": 7}
    await to_thread(backend.trigger, f"private-App.Models.User.{name}", NOTIFICATION, data)
    assert await heard.wait("notification") == data


async def test_here_joining_and_leaving_have_the_members_info(nodes: Cluster, page: Library, name: str) -> None:
    ann = await page.echo(nodes.a, member=member("17"))
    for method in ("here", "joining", "leaving"):
        heard = await ann.hear("join", name, method)
    assert await heard.wait("here") == [member("17")["user_info"]]
    bob = await page.echo(nodes.b, member=member("23"))
    his = await bob.hear("join", name, "here")
    here = await his.wait("here")
    assert sorted(each["id"] for each in here) == ["17", "23"]
    assert await heard.wait("joining") == member("23")["user_info"]
    await bob.call("leave", channel=name)
    assert await heard.wait("leaving") == member("23")["user_info"]
    assert heard.names == ["here", "joining", "leaving"]


async def test_whispers(nodes: Cluster, page: Library, name: str) -> None:
    ann = await page.echo(nodes.a, member=member("17"))
    bob = await page.echo(nodes.b, member=member("23"))
    for kind in ("private", "join"):
        for echo in (ann, bob):
            await (await echo.hear(kind, name, "subscribed")).wait("subscribed")
            await echo.hear(kind, name, "listenForWhisper", "typing")
        await ann.call("whisper", kind=kind, channel=name, event="typing", data={"name": "Ann"})
        assert await bob.log(f"{kind} {name}").wait("typing") == {"name": "Ann"}
        assert "typing" not in ann.log(f"{kind} {name}").names


@pytest.mark.parametrize("reason", [{"refused": 403}, {"secret": "another"}], ids=["application", "gateway"])
async def test_error_is_told_of_a_refused_subscription(
    nodes: Cluster, page: Library, name: str, reason: dict[str, Any]
) -> None:
    echo = await page.echo(nodes.balancer, **reason)
    heard = await echo.hear("private", name, "error")
    error = await heard.wait("error")
    assert (error["type"], error["status"]) == ("AuthError", reason.get("refused", 401))


async def test_the_socket_of_a_request_hears_nothing_of_it(nodes: Cluster, page: Library, name: str) -> None:
    ann, bob = await page.echo(nodes.a), await page.echo(nodes.b)
    for echo in (ann, bob):
        heard = await echo.hear("private", name, "subscribed")
        await heard.wait("subscribed")
        await echo.hear("private", name, "listen", "Sent")
    for node in (nodes.a, nodes.b):
        backend = MAIN.backend(node)
        await to_thread(backend.trigger, f"private-{name}", r"App\Events\Sent", {"n": 1}, await ann.socket())
        await to_thread(backend.trigger, f"private-{name}", r"App\Events\Sent", {"n": 2})
    await ann.log(f"private {name}").wait("Sent", 2)
    await bob.log(f"private {name}").wait("Sent", 4)
    assert ann.log(f"private {name}").named("Sent") == [{"n": 2}] * 2
    assert bob.log(f"private {name}").named("Sent") == [{"n": 1}, {"n": 2}] * 2


async def test_connection_status(nodes: Cluster, page: Library) -> None:
    echo = await page.echo(nodes.balancer)
    assert await echo.call("status") == "connected"
    await echo.disconnect()
    assert await echo.call("status") == "disconnected"


async def test_an_unreachable_gateway_shows_as_failed(page: Library) -> None:
    nobody = SimpleNamespace(host="127.0.0.1", port=free_port())
    echo = await page.echo(nobody, until="unavailable", unavailableTimeout=200)
    assert await echo.call("status") == "failed"


async def test_a_frame_of_echo(nodes: Cluster, node: Library, name: str) -> None:
    """What `whisper` sends is what the others are sent, but for who it is from."""
    echo = await node.echo(nodes.a, member=member("17"))
    await (await echo.hear("join", name, "subscribed")).wait("subscribed")
    async with raw(nodes.b) as other:
        await other.subscribe(f"presence-{name}", json.dumps(member("23")))
        await other.wait("pusher_internal:subscription_succeeded")
        await echo.call("whisper", kind="join", channel=name, event="typing", data={"on": 1})
        frame = await other.wait("client-typing")
    assert frame == {"event": "client-typing", "channel": f"presence-{name}", "data": {"on": 1}, "user_id": "17"}
