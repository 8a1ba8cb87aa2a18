"""Who is where on a node, as the outbox hears of it."""

from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from gateway.messages import ClientInfo
from gateway.outbox.base import Place
from gateway.presence.memory import MemoryPresence
from gateway.webhooks.watch import Watch, WatchedPresence
from tests.waiting import settle
from tests.webhooks.rig import FakeApps, an_app


class Heard:
    """The part of an outbox that is told who is where."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def enter(self, place: Place, key: str) -> None:
        self.calls.append(f"+{place.app} {key} {place.channel} {place.user}".strip())

    async def leave(self, place: Place) -> None:
        self.calls.append(f"-{place.app} {place.channel} {place.user}".strip())


class Rig:
    def __init__(self, *apps: Any) -> None:
        self.outbox = Heard()
        outbox: Any = self.outbox
        self.apps = FakeApps(*apps)
        self.work = Tasks()
        self.watch = Watch(outbox, lambda: self.apps, self.spawn)
        self.store = WatchedPresence(MemoryPresence(), self.watch)
        self.watch.start()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.work.spawn(work)

    async def heard(self) -> list[str]:
        await settle()
        calls, self.outbox.calls = self.outbox.calls, []
        return calls


async def test_channels_are_told_by_the_names_that_clients_have_for_them() -> None:
    rig = Rig(an_app(namespace="shop"))
    for channel in ("shop:news", "shop:private-orders.7", "shop:presence-a", "shop:#17"):
        rig.watch.on_heard(channel)
    names = ["news", "private-orders.7", "presence-a", "#server-to-user-17"]
    assert await rig.heard() == [f"+9001 key9001 {name}" for name in names]
    rig.watch.on_ceased("shop:#17")
    assert await rig.heard() == ["-9001 #server-to-user-17"]


async def test_channels_of_nobody_of_apps_without_webhooks_and_of_others_cost_nothing() -> None:
    rig = Rig(an_app("1", namespace="a", webhooks=[]), an_app("2", namespace="b"))
    for channel in ("chat:news", "a:news", "b:no channel of Pusher"):
        rig.watch.on_heard(channel)
        await rig.store.add(channel, ClientInfo(user="17", client="c1"))
        rig.watch.on_ceased(channel)
    assert await rig.heard() == []
    assert not rig.watch._channels
    assert not rig.watch._members


async def test_an_app_without_a_namespace_has_no_channels_of_namespaces() -> None:
    rig = Rig(an_app())
    rig.watch.on_heard("chat:news")
    rig.watch.on_heard("news")
    assert await rig.heard() == ["+9001 key9001 news"]


async def test_only_what_some_webhook_wants_is_watched() -> None:
    rig = Rig(an_app(webhooks=[{"url": "http://x", "event_types": ["member_removed"], "channel_prefix": "presence-a"}]))
    rig.watch.on_heard("presence-a")
    await rig.store.add("presence-a", ClientInfo(user="17", client="c1"))
    await rig.store.add("presence-b", ClientInfo(user="17", client="c1"))
    assert await rig.heard() == ["+9001 key9001 presence-a 17"]


async def test_a_user_comes_with_the_first_connection_and_goes_with_the_last() -> None:
    rig = Rig(an_app())
    for client in ("c1", "c2", "c2"):
        await rig.store.add("presence-a", ClientInfo(user="17", client=client))
    await rig.store.remove("presence-a", "c1")
    await rig.store.remove("presence-a", "c1")
    await rig.store.remove("presence-a", "unknown")
    assert await rig.heard() == ["+9001 key9001 presence-a 17"]
    await rig.store.remove("presence-a", "c2")
    assert await rig.heard() == ["-9001 presence-a 17"]
    assert not rig.watch._members
    assert not rig.watch._clients
    assert await rig.store.members("presence-a") == {}


async def test_who_has_no_name_is_called_by_its_client() -> None:
    rig = Rig(an_app())
    await rig.store.add("presence-a", ClientInfo(user="", client="c1"))
    assert await rig.heard() == ["+9001 key9001 presence-a c1"]


async def test_a_client_that_becomes_another_user_leaves_the_former() -> None:
    rig = Rig(an_app())
    await rig.store.add("presence-a", ClientInfo(user="17", client="c1"))
    await rig.store.add("presence-a", ClientInfo(user="23", client="c1"))
    assert await rig.heard() == [
        "+9001 key9001 presence-a 17",
        "-9001 presence-a 17",
        "+9001 key9001 presence-a 23",
    ]


async def test_members_of_other_channels_are_none() -> None:
    rig = Rig(an_app())
    await rig.store.add("private-a", ClientInfo(user="17", client="c1"))
    assert await rig.heard() == []


async def test_who_could_not_be_added_has_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(an_app())

    async def fail(channel: str, info: ClientInfo) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(rig.store._inner, "add", fail)
    with pytest.raises(BrokerUnavailable):
        await rig.store.add("presence-a", ClientInfo(user="17", client="c1"))
    assert await rig.heard() == []


async def test_what_has_come_is_left_though_its_app_is_forgotten() -> None:
    rig = Rig(an_app())
    rig.watch.on_heard("presence-a")
    await rig.store.add("presence-a", ClientInfo(user="17", client="c1"))
    rig.apps.apps.clear()
    await rig.store.remove("presence-a", "c1")
    rig.watch.on_ceased("presence-a")
    assert (await rig.heard())[2:] == ["-9001 presence-a 17", "-9001 presence-a"]


async def test_after_the_close_nothing_is_told() -> None:
    rig = Rig(an_app())
    rig.watch.on_heard("presence-a")
    await rig.store.add("presence-a", ClientInfo(user="17", client="c1"))
    await rig.heard()
    rig.watch.close()
    await rig.store.remove("presence-a", "c1")
    rig.watch.on_ceased("presence-a")
    rig.watch.on_heard("presence-b")
    assert await rig.heard() == []
