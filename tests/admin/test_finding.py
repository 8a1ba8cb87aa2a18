"""Which connections of many are found, and how few are looked at in one go."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin.finding import PORTION, Wanted, find_clients, read_wanted
from gateway.core.hub import Hub
from gateway.errors import Error
from gateway.metrics import Metrics


class Looked:
    """How many connections are looked at between two turns of the loop, at most."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0

    def one(self) -> None:
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)

    async def watch(self) -> None:
        while True:
            self.now = 0
            await asyncio.sleep(0)


class Fake:
    """A connection that notes when somebody asks its id."""

    def __init__(self, number: int, looked: Looked, user: str = "") -> None:
        self._client = f"{number:08x}"
        self._looked = looked
        self.user = user
        self.address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.subscriptions: dict[str, Any] = {}

    @property
    def client(self) -> str:
        self._looked.one()
        return self._client


def hub_of(count: int, looked: Looked, users: int = 0) -> Hub:
    """Connections in no order."""
    hub = Hub(Metrics())
    numbers = random.Random(count).sample(range(count), count)
    for number in numbers:
        fake: Any = Fake(number, looked, f"user {number % users}" if users else "")
        hub.open(fake)
    looked.now = looked.most = looked.total = 0
    return hub


async def find(hub: Hub, most: int, after: str = "", user: str = "", channel: str = "", address: str = "") -> list[str]:
    return await find_clients(hub, user=user, channel=channel, wanted=read_wanted(address), after=after, most=most)


@pytest.mark.parametrize("address", ["", "10.0.0.0/30"])
async def test_a_hundred_thousand_are_looked_through_a_portion_at_a_time(address: str) -> None:
    looked = Looked()
    hub = hub_of(100_000, looked)
    watching = asyncio.create_task(looked.watch())
    try:
        found = await find(hub, 51, address=address)
    finally:
        watching.cancel()
    assert found == [f"{number:08x}" for number in range(4 if address.endswith("30") else 51)]
    assert looked.total >= 100_000
    assert looked.most <= 2 * PORTION  # each is asked once, and here and there a second time


async def test_those_of_a_channel_are_looked_through_so_too() -> None:
    looked = Looked()
    hub = hub_of(20_000, looked)
    members = {_Member(each): None for each in hub.connections.values()}
    channel: Any = SimpleNamespace(audiences={0: SimpleNamespace(members=members)})
    hub.channels["news"] = channel
    looked.now = looked.most = looked.total = 0
    watching = asyncio.create_task(looked.watch())
    try:
        found = await find(hub, 10, channel="news")
    finally:
        watching.cancel()
    assert found == [f"{number:08x}" for number in range(10)]
    assert looked.most <= 3 * PORTION


class _Member:
    def __init__(self, connection: Any) -> None:
        self.connection = connection


async def test_pages_have_everybody_once() -> None:
    hub = hub_of(2_500, Looked())
    seen: list[str] = []
    while some := await find(hub, 99, after=seen[-1] if seen else ""):
        seen += some
    assert seen == sorted(hub.connections)


async def test_a_users_connections_are_found_without_looking_at_others() -> None:
    looked = Looked()
    hub = hub_of(5_000, looked, users=1_000)
    assert await find(hub, 3, user="user 7") == [f"{number:08x}" for number in (7, 1007, 2007)]
    assert looked.total <= 10
    assert await find(hub, 3, user="user 7", after=f"{2007:08x}") == [f"{number:08x}" for number in (3007, 4007)]
    assert await find(hub, 3, user="nobody") == []
    assert await find(hub, 3, channel="nowhere") == []


async def test_who_goes_meanwhile_does_no_harm() -> None:
    hub = hub_of(5_000, Looked())
    task = asyncio.create_task(find(hub, 5))
    await asyncio.sleep(0)
    hub.connections.clear()
    assert len(await task) == 5


@pytest.mark.parametrize(
    ("text", "there", "elsewhere"),
    [
        ("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.33", "", "unix"]),
        ("2001:DB8:0::1", ["2001:db8::1"], ["2001:db8::2"]),
        ("unix", ["unix"], ["", "10.1.2.3"]),
        ("10.0.0.0/8", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1", "2001:db8::1", "unix", ""]),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("2001:db8::/32", ["2001:db8:ffff::1", "2001:db8::1%eth0"], ["2001:db9::1", "10.1.2.3", "2001:db8", ":"]),
        ("0.0.0.0/0", ["10.1.2.3", "::ffff:10.1.2.3"], ["2001:db8::1", "somebody", "a\0b"]),
    ],
)
def test_what_an_address_stands_for(text: str, there: list[str], elsewhere: list[str]) -> None:
    wanted: Wanted | None = read_wanted(text)
    assert wanted is not None
    assert [host for host in there + elsewhere if wanted(host)] == there


def test_what_is_no_address() -> None:
    assert read_wanted("") is None
    for text in ("10.0.0.0/99", "example.com/8", "/"):
        with pytest.raises(Error, match=r"for example 10\.0\.0\.0/8"):
            read_wanted(text)
