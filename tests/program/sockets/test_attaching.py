"""Who comes in, how it is known, and that nothing is left of it afterwards."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocketDisconnect

from gateway import Client as GatewayClient
from gateway.core.cluster import DisconnectUser, RefreshUser
from gateway.errors import BrokerUnavailable, DisconnectCode, Error
from gateway.program.sockets import ClientLeft, ConnectionManager
from tests.auth.issuer import P256, issuing, jwk, signed
from tests.program.sockets.client import Client, SocketRig
from tests.session.rig import NOW
from tests.waiting import settle, until

PERSONAL = {"subscribe_to_user_personal_channel": {"enabled": True}}


@pytest.fixture
async def rig() -> SocketRig:
    return await SocketRig.open()


async def refused(rig: SocketRig, client: Client, **options: Any) -> tuple[int, str]:
    """The code and reason by which the route fails; nobody is let in."""
    with pytest.raises(WebSocketException) as failure:
        async with rig.sockets.attach(client.websocket, **options):
            raise AssertionError("the client came in")
    assert rig.node.hub.connections == {}
    assert rig.acceptor.sessions == set()
    return failure.value.code, failure.value.reason


# — in and out —


async def test_accepts_and_is_counted(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, user=7) as connection:
        assert client.accepted == [{"type": "websocket.accept", "subprotocol": None, "headers": []}]
        assert connection.user == "7"
        assert connection.websocket is client.websocket
        assert rig.node.hub.connections[connection.id].user == "7"
        assert len(rig.node.hub.connections) == 1
        assert len(rig.acceptor.sessions) == 1
        await connection.subscribe("news")
    assert connection.closed
    assert client.closing() is None, "it is the route's to close"
    assert rig.node.metrics.disconnects == {DisconnectCode.CONNECTION_CLOSED: 1}
    await rig.assert_empty()


async def test_takes_a_socket_that_is_accepted(rig: SocketRig) -> None:
    client = Client()
    await client.websocket.accept("chat")
    async with rig.sockets.attach(client.websocket) as connection:
        assert connection.user == ""
    assert [each["subprotocol"] for each in client.accepted] == ["chat"]


@pytest.mark.parametrize(
    ("keyword", "meant"), [("tokne", "did you mean 'token'? "), ("fromat", "did you mean 'format'? "), ("room", "")]
)
async def test_nobody_comes_in_by_a_keyword_that_there_is_not(rig: SocketRig, keyword: str, meant: str) -> None:
    client = Client()
    options: dict[str, Any] = {keyword: "forged"}
    with pytest.raises(TypeError) as caught:
        async with rig.sockets.attach(client.websocket, **options):
            raise AssertionError("the client came in")
    wrong = f"attach() got an unexpected keyword argument '{keyword}'; {meant}it takes user, token, format, "
    assert str(caught.value).startswith(wrong)
    assert client.accepted == []
    await rig.assert_empty()


@pytest.mark.parametrize(("keyword", "meant"), [("romo", "did you mean 'room'? "), ("strict", "")])
async def test_nor_by_one_that_the_manager_does_not_take(rig: SocketRig, keyword: str, meant: str) -> None:
    client = Client()
    options: dict[str, Any] = {keyword: "forged"}
    with pytest.raises(TypeError) as caught:
        await ConnectionManager(rig.host).connect(client.websocket, **options)
    wrong = f"connect() got an unexpected keyword argument '{keyword}'; {meant}it takes room, user, token, format, "
    assert str(caught.value).startswith(wrong)
    assert client.accepted == []
    await rig.assert_empty()


async def test_accepts_with_a_subprotocol(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, subprotocol="chat"):
        assert [each["subprotocol"] for each in client.accepted] == ["chat"]


async def test_no_deadline_of_the_protocol_of_sdks_counts(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket) as connection:
        rig.pass_time(120)
        assert client.closing() is None
        assert not connection.closed
        assert client.heard == []


async def test_a_failing_route_leaves_nothing(rig: SocketRig) -> None:
    async def route() -> None:
        async with rig.sockets.attach(Client().websocket) as connection:
            await connection.subscribe("lobby:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await route()
    await rig.assert_empty()


async def test_a_cancelled_route_leaves_nothing(rig: SocketRig) -> None:
    async def route() -> None:
        async with rig.sockets.attach(Client().websocket) as connection:
            await connection.subscribe("lobby:1")
            await connection.receive()

    task = asyncio.create_task(route())
    await until(lambda: rig.node.hub.subscribers("lobby:1"))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await rig.assert_empty()


async def test_the_end_of_the_block_waits_until_the_channels_know(rig: SocketRig) -> None:
    async with rig.sockets.attach(Client().websocket, user="ann") as connection:
        await connection.subscribe("lobby:1")
        assert list(await rig.presence.members("lobby:1")) == [connection.id]
    assert await rig.presence.members("lobby:1") == {}


async def test_a_client_that_leaves_while_the_websocket_receives_ends_the_block(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket):
        client.leave()
        await client.websocket.receive_text()
    await rig.assert_empty()


async def test_the_end_of_tasks_of_the_block_is_the_end_of_the_block(rig: SocketRig) -> None:
    client, other = Client(), Client()
    async with rig.sockets.attach(client.websocket) as connection, asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(connection.receive())
            client.leave()
    with pytest.raises(ExceptionGroup):
        async with rig.sockets.attach(other.websocket) as connection:
            raise ExceptionGroup("both", [ZeroDivisionError(), ClientLeft(connection, 1001, "")])
    await rig.assert_empty()


async def test_a_broker_that_is_away_from_tasks_of_the_block_closes_with_1013(rig: SocketRig) -> None:
    with pytest.raises(WebSocketException) as failure:
        async with rig.sockets.attach(Client().websocket) as connection:
            raise ExceptionGroup("all", [BrokerUnavailable(), ClientLeft(connection, 1001, "")])
    assert failure.value.code == 1013
    with pytest.raises(ExceptionGroup):
        async with rig.sockets.attach(Client().websocket):
            raise ExceptionGroup("both", [BrokerUnavailable(), ZeroDivisionError()])
    await rig.assert_empty()


async def test_another_sockets_disconnect_passes(rig: SocketRig) -> None:
    with pytest.raises(WebSocketDisconnect):
        async with rig.sockets.attach(Client().websocket):
            raise WebSocketDisconnect(1001)
    await rig.assert_empty()


@pytest.mark.parametrize("options", [{"format": "xml"}, {"user": "ann", "token": "t"}])
async def test_wrong_arguments(rig: SocketRig, options: Any) -> None:
    client = Client()
    with pytest.raises((ValueError, TypeError)):
        async with rig.sockets.attach(client.websocket, **options):
            pass
    assert client.sent == []


# — tokens —


async def test_a_good_token_names_the_user(rig: SocketRig) -> None:
    async with rig.sockets.attach(Client().websocket, token=rig.token("ann", info={"n": 1})) as connection:
        assert connection.user == "ann"
        await connection.subscribe("lobby:1", info={"color": "red"})
        [member] = (await rig.presence.members("lobby:1")).values()
        assert (member.user, member.conn_info, member.chan_info) == ("ann", b'{"n":1}', b'{"color":"red"}')


async def test_info_of_the_route_comes_before_that_of_the_token(rig: SocketRig) -> None:
    token = rig.token("ann", info={"n": 1})
    async with rig.sockets.attach(Client().websocket, token=token, info={"n": 2}) as connection:
        await connection.subscribe("lobby:1")
        [member] = (await rig.presence.members("lobby:1")).values()
        assert (member.conn_info, member.chan_info) == (b'{"n":2}', None)


@pytest.mark.parametrize("token", [None, "", "nonsense"])
async def test_without_a_good_token_nobody_is_accepted(rig: SocketRig, token: str | None) -> None:
    client = Client()
    assert await refused(rig, client, token=token) == (1008, "invalid token")
    assert client.sent == []


async def test_a_forged_token(rig: SocketRig) -> None:
    client = Client()
    token = rig.token("ann", key="not the secret, but as long as it has to be")
    assert await refused(rig, client, token=token) == (1008, "invalid token")
    assert client.sent == []


async def test_a_token_by_a_key_that_is_published() -> None:
    async with issuing(jwk(P256, "k")) as issuer:
        rig = await SocketRig.open(token={"jwks_public_endpoint": issuer.url})
        async with rig.sockets.attach(Client().websocket, token=signed(P256, "ES256")) as connection:
            assert connection.user == "ann"
        issuer.fail()
        client = Client()
        assert await refused(rig, client, token=signed(P256, "ES256", "another")) == (1013, "try again later")
        assert client.sent == []
        assert rig.node.metrics.refusals == {"keys_away": 1}
        rig.tokens.close()


async def test_who_is_refused_is_told_of_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.refusals")
    rig = await SocketRig.open(user_connection_limit=1)
    await refused(rig, Client(), token=rig.token("ann", key="not the secret, but as long as it has to be"))
    await refused(rig, Client(), token=rig.token("ann", exp=1))
    async with rig.sockets.attach(Client().websocket, user="ann"):
        with pytest.raises(WebSocketException):
            await rig.sockets.open(Client().websocket, user="ann")
    assert rig.node.metrics.refusals == {"token_signature": 1, "token_exp": 1, "user_connection_limit": 1}
    assert "token refused: alg is 'HS256', and no key of client.token has signed it" in caplog.text
    assert " user 'ann'" in caplog.text


async def test_a_token_whose_time_has_passed_gets_a_code_that_a_page_sees(rig: SocketRig) -> None:
    client = Client()
    token = rig.token("ann", ttl=10)
    rig.pass_time(10)
    assert await refused(rig, client, token=token) == (4001, "token expired")
    assert client.accepted


async def test_the_route_may_say_when_it_ends(rig: SocketRig) -> None:
    client = Client()
    end = datetime.fromtimestamp(NOW + 60, UTC)
    async with rig.sockets.attach(client.websocket, user="ann", expires=end):
        rig.pass_time(61)
        await until(lambda: client.closing())
        assert client.closing() == (4001, "token expired")
    assert await refused(rig, Client(), user="ann", expires=NOW) == (4001, "token expired")
    with pytest.raises(TypeError, match="expires with user only"):
        await rig.sockets.open(Client().websocket, token="a token", expires=NOW)


async def test_the_claim_expire_at_counts_too(rig: SocketRig) -> None:
    token = rig.token("ann", expire_at=NOW)
    assert await refused(rig, Client(), token=token) == (4001, "token expired")


async def test_the_end_of_the_token_ends_the_connection(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, token=rig.token("ann", ttl=30)) as connection:
        rig.pass_time(29)
        assert client.closing() is None
        rig.pass_time(2)
        await until(lambda: client.closing())
        assert client.closing() == (4001, "token expired")
        assert connection.closed
    assert rig.node.metrics.disconnects == {4001: 1}
    await rig.assert_empty()


async def test_the_server_moves_the_end(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, token=rig.token("ann", ttl=30)):
        rig.control(RefreshUser(user="ann", expire_at=int(NOW) + 60))
        rig.pass_time(59)
        assert client.closing() is None
        assert client.heard == []
        rig.pass_time(2)
        await until(lambda: client.closing())
        assert client.closing() == (4001, "token expired")


async def test_insecure_tokens_do_not_end() -> None:
    rig = await SocketRig.open(insecure=True)
    client = Client()
    async with rig.sockets.attach(client.websocket, token=rig.token("ann", expire_at=NOW + 1)):
        rig.pass_time(5)
        assert client.closing() is None


async def test_anonymous_tokens_may_be_refused() -> None:
    rig = await SocketRig.open(disallow_anonymous_connection_tokens=True)
    assert await refused(rig, Client(), token=rig.token("")) == (1008, "the token names no user")


# — limits —


async def test_origins_count_where_the_route_asks() -> None:
    rig = await SocketRig.open(allowed_origins=["https://example.com"])
    stranger = (b"origin", b"https://elsewhere.com"), (b"host", b"localhost")
    assert await refused(rig, Client(*stranger), check_origin=True) == (1008, "origin not allowed")
    for client, asked in (
        (Client(*stranger), False),
        (Client((b"origin", b"https://example.com")), True),
        (Client(), True),
    ):
        async with rig.sockets.attach(client.websocket, check_origin=asked):
            assert client.accepted


async def test_a_node_that_is_full_or_stops(rig: SocketRig) -> None:
    full = await SocketRig.open(connection_limit=1)
    async with full.sockets.attach(Client().websocket):
        client = Client()
        with pytest.raises(WebSocketException) as failure:
            await full.sockets.open(client.websocket)
        assert (failure.value.code, client.sent) == (1013, [])
    async with full.sockets.attach(Client().websocket):
        pass
    rig.node.draining = True
    assert (await refused(rig, Client()))[0] == 1013


async def test_a_node_takes_so_many_a_second() -> None:
    rig = await SocketRig.open(connection_rate_limit=1)
    rig.acceptor.refuse({"headers": ()})
    with pytest.raises(WebSocketException) as failure:
        await rig.sockets.open(Client().websocket)
    assert (failure.value.code, rig.node.metrics.refused_connections.total()) == (1013, 1)


async def test_connections_of_a_user_may_be_limited() -> None:
    rig = await SocketRig.open(user_connection_limit=1)
    async with rig.sockets.attach(Client().websocket, user="ann"):
        with pytest.raises(WebSocketException) as failure:
            await rig.sockets.open(Client().websocket, user="ann")
        assert failure.value.code == DisconnectCode.CONNECTION_LIMIT
        assert len(rig.node.hub.connections) == 1
        assert len(rig.acceptor.sessions) == 1
    await rig.assert_empty()


def proxied(address: str) -> Client:
    client = Client((b"x-forwarded-for", address.encode()))
    client.websocket.scope["client"] = "127.0.0.1", 5000
    return client


async def test_addresses_are_limited_whether_origins_are_checked_or_not() -> None:
    rates = {"address_command": {"enabled": True, "connect": "3/minute"}}
    rig = await SocketRig.open(address_connection_limit=1, rate_limit=rates)
    async with rig.sockets.attach(proxied("10.0.0.1").websocket, check_origin=True):
        with pytest.raises(WebSocketException) as failure:
            await rig.sockets.open(proxied("10.0.0.1").websocket)
        assert failure.value.code == 1013
        async with rig.sockets.attach(proxied("10.0.0.2").websocket):
            pass
    for _ in range(2):
        async with rig.sockets.attach(proxied("10.0.0.1").websocket):
            pass
    assert await refused(rig, proxied("10.0.0.1")) == (1013, "try again later")
    assert rig.node.metrics.refused_connections == {"address_connection_limit": 1, "address_rate": 1}
    assert rig.node.limiter._open == {}


async def test_a_user_that_comes_too_often_is_to_come_later() -> None:
    rig = await SocketRig.open(rate_limit={"user_command": {"enabled": True, "connect": "1/minute"}})
    for user in ("ann", "bob"):
        async with rig.sockets.attach(proxied("10.0.0.1").websocket, user=user):
            pass
    client = proxied("10.0.0.1")
    assert await refused(rig, client, user="ann") == (1013, "try again later")
    assert client.accepted
    async with rig.sockets.attach(proxied("10.0.0.1").websocket):
        pass
    assert (await refused(rig, proxied("10.0.0.1")))[0] == 1013  # nobody in particular, of this address
    async with rig.sockets.attach(proxied("10.0.0.2").websocket):
        pass
    await rig.assert_empty()


# — the server's own will —


async def test_a_user_can_be_disconnected(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket, user="ann") as connection:
        rig.control(DisconnectUser(user="ann", code=4444, reason="go"))
        await until(lambda: client.closing())
        assert client.closing() == (4444, "go")
        client.say("too late")
        client.leave(4444)
        assert [value async for value in connection] == []
    await rig.assert_empty()


async def test_a_stopping_node_says_so_in_standard_words(rig: SocketRig) -> None:
    clients = [Client() for _ in range(3)]
    connections = [await rig.sockets.open(client.websocket) for client in clients]
    await rig.acceptor.drain()
    await until(lambda: all(client.closing() for client in clients))
    assert {client.closing() for client in clients} == {(1012, "service restart")}
    for connection in connections:
        await connection.left()
    await rig.assert_empty()


async def test_a_user_has_its_personal_channel() -> None:
    rig = await SocketRig.open(**PERSONAL)
    client = Client()
    async with rig.sockets.attach(client.websocket, user="ann"):
        await rig.publish("#ann", "for you")
        rig.node.hub.flush()
        assert client.heard == ["for you"]
    async with rig.sockets.attach(Client().websocket):
        assert rig.node.hub.subscriptions == 0


async def test_a_personal_channel_that_cannot_be_had_leaves_nothing() -> None:
    rig = await SocketRig.open(**PERSONAL)
    rig.broker.down()
    with pytest.raises(WebSocketException):
        await rig.sockets.open(Client().websocket, user="ann")
    await rig.assert_empty()


async def test_streams_are_for_clients_of_the_sdks(rig: SocketRig) -> None:
    """Handlers may meet plain sockets too, where their channels end."""
    async with rig.sockets.attach(Client().websocket, user=7) as connection:
        client = GatewayClient(connection._session, {"type": "websocket"})
        with pytest.raises(RuntimeError, match=r"gateway.stream\(channel, source\)"):
            await client.stream(listen())


async def listen() -> AsyncIterator[str]:
    yield "never"


async def test_the_block_ends_when_the_channels_know_whoever_closed(
    rig: SocketRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, remove = asyncio.Event(), rig.presence.remove

    async def slow(channel: str, client: str) -> None:
        await go_on.wait()
        await remove(channel, client)

    monkeypatch.setattr(rig.presence, "remove", slow)
    client = Client()

    async def route() -> object:
        async with rig.sockets.attach(client.websocket, user=7) as connection:
            await connection.subscribe("lobby:1")
            await connection.close()
            client.leave()
        return await rig.presence.members("lobby:1")

    running = asyncio.create_task(route())
    await until(lambda: client.closing() is not None)
    await settle()
    assert not running.done()
    go_on.set()
    assert await running == {}
    await rig.assert_empty()


async def test_of_connections_of_a_user_one_is_left_where_that_is_the_rule() -> None:
    rig = await SocketRig.open(subscribe_to_user_personal_channel={"enabled": True, "single_connection": True})
    sdk = await rig.connected("alice")
    rig.pass_time(0.1)
    async with rig.sockets.attach(Client().websocket, user="alice") as first:
        assert sdk.closed == (3504, "connection limit")
        rig.pass_time(0.1)
        async with rig.sockets.attach(Client().websocket, user="alice") as second:
            assert (first.closed, second.closed) == (True, False)


# — subscribed before it is open —


@pytest.mark.parametrize("history", [False, True])
async def test_is_accepted_when_it_is_subscribed_and_gets_what_is_published_meanwhile(
    rig: SocketRig, history: bool
) -> None:
    """Between the subscription and the open nothing is lost, and nothing is sent."""
    channel, client = ("room:1" if history else "news"), Client()
    gate = rig.broker.gate("subscribe", "later")
    opening = asyncio.create_task(rig.sockets.open(client.websocket, channels=[channel, "later"]))
    await gate.reached()
    await rig.publish(channel, "one", "two")
    rig.node.hub.flush()
    assert client.sent == []
    gate.open()
    connection = await opening
    await rig.publish(channel, "three")
    rig.node.hub.flush()
    assert [message["type"] for message in client.sent] == ["websocket.accept", *["websocket.send"] * 3]
    assert client.heard == ["one", "two", "three"]
    assert connection.channels == [channel, "later"]
    await connection.left()
    await rig.assert_empty()


async def test_one_name_in_place_of_a_list_is_refused(rig: SocketRig) -> None:
    client = Client()
    with pytest.raises(TypeError, match=r'\["news"\]'):
        async with rig.sockets.attach(client.websocket, channels="news"):
            raise AssertionError("the client came in")
    assert client.sent == []


async def test_who_is_disconnected_before_it_is_open_learns_it_then(rig: SocketRig) -> None:
    client = Client()
    gate = rig.broker.gate("subscribe", "news")
    opening = asyncio.create_task(rig.sockets.open(client.websocket, user="ann", channels=["news", "other"]))
    await gate.reached()
    rig.control(DisconnectUser(user="ann", code=4444, reason="go"))
    gate.open()
    connection = await opening
    assert await until(client.closing) == (4444, "go")
    assert client.accepted
    assert connection.closed
    await connection.left()
    await rig.assert_empty()


async def test_no_more_is_kept_for_one_that_is_not_open_than_for_others() -> None:
    rig = await SocketRig.open(queue_max_size=1024)
    client = Client()
    gate = rig.broker.gate("subscribe", "later")
    opening = asyncio.create_task(rig.sockets.open(client.websocket, channels=["news", "later"]))
    await gate.reached()
    for _ in range(20):
        await rig.publish("news", "x" * 100)
        rig.node.hub.flush()
    await settle()
    gate.open()
    connection = await opening
    assert await until(client.closing) == (DisconnectCode.SLOW, "slow")
    assert len(client.heard) == 10
    await connection.left()
    await rig.assert_empty()


async def test_a_channel_that_there_cannot_be_leaves_nothing(rig: SocketRig) -> None:
    client = Client()
    with pytest.raises(Error):
        await rig.sockets.open(client.websocket, channels=["news", "nowhere:1"])
    assert client.sent == []
    await rig.assert_empty()


# — without a broker —


async def test_a_broker_that_is_away_closes_with_1013_and_a_line_in_the_log_for_all(
    rig: SocketRig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.broker.down()
    before, amid = Client(), Client()
    assert await refused(rig, before, channels=["news"]) == (1013, "try again later")
    assert before.accepted, "so that a page sees the code"
    with pytest.raises(WebSocketException) as failure:
        async with rig.sockets.attach(amid.websocket) as connection:
            await connection.subscribe("news")
    assert (failure.value.code, failure.value.reason) == (1013, "try again later")
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == ["somebody: /ws closed with 1013, for the broker is away"]
    assert rig.node.metrics.refusals == {"broker_away": 2}
    await rig.assert_empty()


async def test_one_that_we_have_closed_is_not_closed_for_it(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket) as connection:
        await connection.close(4000)
        raise BrokerUnavailable
    assert client.closing() == (4000, "")
    await rig.assert_empty()


async def test_a_client_that_has_gone_is_not_closed_for_it(rig: SocketRig) -> None:
    client = Client()
    async with rig.sockets.attach(client.websocket) as connection:
        client.leave()
        assert [text async for text in connection] == []
        raise BrokerUnavailable
    await rig.assert_empty()
