"""What every presence store does."""

import pytest

from gateway.errors import Error
from gateway.messages import ClientInfo, Payload
from gateway.presence.base import PresenceStore

ANN = ClientInfo("ann", "c1", conn_info=Payload(b'{"name":"Ann"}'), chan_info=Payload(b"\x00\n\xff"))
BOB = ClientInfo("bob", "c2")


async def test_members_come_and_go(store: PresenceStore) -> None:
    assert await store.members("news") == {}
    await store.add("news", ANN)
    await store.add("news", BOB)
    await store.add("other", BOB)
    assert await store.members("news") == {"c1": ANN, "c2": BOB}
    await store.remove("news", "c1")
    assert await store.members("news") == {"c2": BOB}
    await store.remove("news", "c2")
    assert await store.members("news") == {}
    assert await store.members("other") == {"c2": BOB}


async def test_payloads_come_back_as_such(store: PresenceStore) -> None:
    await store.add("news", ANN)
    info = (await store.members("news"))["c1"]
    assert type(info.conn_info) is Payload
    assert info.chan_info == b"\x00\n\xff"


async def test_adding_again_replaces(store: PresenceStore) -> None:
    await store.add("news", ANN)
    again = ClientInfo("ann", "c1", conn_info=Payload(b"2"))
    await store.add("news", again)
    assert await store.members("news") == {"c1": again}
    await store.remove("news", "c1")
    assert await store.members("news") == {}


async def test_removing_the_unknown_is_no_error(store: PresenceStore) -> None:
    await store.remove("news", "nobody")
    await store.add("news", ANN)
    await store.remove("news", "nobody")
    assert await store.members("news") == {"c1": ANN}


async def test_stats_count_clients_and_users(store: PresenceStore) -> None:
    assert await store.stats("news") == (0, 0)
    await store.add("news", ANN)
    await store.add("news", ClientInfo("ann", "c3"))
    await store.add("news", BOB)
    assert await store.stats("news") == (3, 2)


async def test_close_removes_the_members(store: PresenceStore, swept: list[tuple[str, ClientInfo]]) -> None:
    await store.add("news", ANN)
    await store.close()
    assert await store.members("news") == {}
    assert swept == []


async def test_stats_follow_members_that_are_replaced_and_removed(store: PresenceStore) -> None:
    await store.add("news", ANN)
    await store.add("news", ANN)
    await store.add("news", ClientInfo("ann", "c3"))
    assert await store.stats("news") == (2, 1)
    await store.add("news", ClientInfo("7:\n#", "c3"))
    assert await store.stats("news") == (2, 2)
    await store.remove("news", "c1")
    await store.remove("news", "c1")
    assert await store.stats("news") == (1, 1)
    assert await store.members("news") == {"c3": ClientInfo("7:\n#", "c3")}
    await store.remove("news", "c3")
    assert await store.stats("news") == (0, 0)


async def test_users_of_any_name_are_kept_apart(store: PresenceStore) -> None:
    users = ["", "7", "ünï", "a\nb", "3:ann", "x" * 300]
    for number, user in enumerate(users):
        await store.add("news", ClientInfo(user, f"c{number}"))
    assert await store.stats("news") == (6, 6)
    assert [info.user for _, info in sorted((await store.members("news")).items())] == users


async def test_no_more_members_are_read_than_asked_for(store: PresenceStore) -> None:
    await store.add("news", ANN)
    await store.add("news", BOB)
    assert len(await store.members("news", 2)) == 2
    with pytest.raises(Error, match="limit exceeded"):
        await store.members("news", 1)


async def test_members_are_read_in_pages(store: PresenceStore) -> None:
    infos = {f"c{number}": ClientInfo(f"u{number % 7}", f"c{number}") for number in range(1000)}
    for info in infos.values():
        await store.add("news", info)
    found, cursor, pages = {}, "", 0
    while cursor or not pages:
        page, cursor = await store.page("news", 100, cursor)
        assert len(page) <= 200
        found.update(page)
        pages += 1
    assert found == infos
    assert 5 <= pages <= 12
    assert await store.stats("news") == (1000, 7)
    assert await store.page("empty", 100) == ({}, "")


@pytest.mark.parametrize("cursor", ["x", "-1", "a/b", "²", "a/99999999999999999999999", "9" * 5000])
async def test_a_strange_cursor_is_refused(store: PresenceStore, cursor: str) -> None:
    with pytest.raises(Error, match="cursor"):
        await store.page("news", 100, cursor)
