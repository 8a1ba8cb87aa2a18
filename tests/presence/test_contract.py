"""What every presence store does."""

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
