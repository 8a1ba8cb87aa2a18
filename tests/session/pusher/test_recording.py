"""Sessions of this protocol while somebody watches them; and that nothing keeps them."""

from gateway.core.recorder import Subject
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import PusherSession
from gateway.session.taps import Taps
from tests.session.pusher.rig import PusherRig, ack, event
from tests.session.rig import nobody_kept


async def test_what_is_recorded_of_one() -> None:
    rig = await PusherRig.start(client={"ping_interval": 25, "pong_timeout": 8})
    taps = Taps(rig.node)
    client = rig.enter()
    subject = Subject("client", client.session.client)
    assert taps.recorder.start(subject, 600)
    assert type(client.session) is not PusherSession
    assert await client.subscribe("presence-x", '{"user_id":"17"}')
    assert await client.subscribe("private-x") == [ack("private-x")]
    await rig.say("private-x", "1")
    assert client.take() == [event("private-x", "1")]
    await client.send("client-x", 1, channel="private-x")
    await client.sign_in("17", watchlist=["23"])
    while client.session.awaits_pong is None:
        rig.pass_time(0.1)
    await client.send("pusher:pong")
    kinds = {each.kind for each in taps.recorder.watches[subject].events}
    assert {"watch", "subscribe", "publication", "ping", "pong"} <= kinds
    assert taps.recorder.start(subject, 0)
    assert type(client.session) is PusherSession
    assert taps.recorder.start(subject, 600)
    client.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
    assert client.closed == (4200, "shutdown")
    await client.leave()
    assert taps._watched == {}


async def test_a_user_is_watched_from_the_sign_in_on() -> None:
    rig = await PusherRig.start()
    taps = Taps(rig.node)
    assert taps.recorder.start(Subject("user", "17"), 600)
    client = rig.enter()
    assert type(client.session) is PusherSession
    await client.sign_in("17")
    assert type(client.session) is not PusherSession
    await client.leave()
    assert taps._watched == {}


async def test_nobody_keeps_a_session_that_has_ended() -> None:
    with nobody_kept():
        rig = await PusherRig.start(
            enable_watchlists=True, authorization_timeout=60, namespace={"history_size": 10, "history_ttl": 60}
        )
        client = rig.enter()
        await client.join("presence-x", "17")
        await client.subscribe("cache-x")
        await client.subscribe("private-x")
        await client.send("client-x", 1, channel="private-x")
        await client.sign_in("17", watchlist=["23"])
        await client.subscribe("#server-to-user-17")
        await client.send("pusher:subscribe", {"channel": "private-x", "auth": "no"})
        await client.send("nonsense")
        await client.leave()
        rig.pass_time(3)
        await rig.settle()
        del client
