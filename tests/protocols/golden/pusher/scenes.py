"""The scenes. The ten exchanges of the protocol's description come first, in their order."""

from tests.protocols.golden.pusher.stage import Scene, Stage

NOOR = '{"user_id":"17","user_info":{"name":"Noor"}}'
IVO = '{"user_id":"23","user_info":{"name":"Ivo"}}'
EVENTS = "/apps/9001/events"
ODD = ' {"big":12345678901234567890, "s":"é \\u00e9 </script>"} '
POSTED = ("hello", "", "null", "5", ODD, '"text"', {"a": 1})


async def _connect(stage: Stage) -> None:
    client = await stage.enter("C")
    await client.say("pusher:ping", {})
    await client.say("pusher:pong", {})


async def _unknown_key(stage: Stage) -> None:
    await stage.enter("C", "nobodys")


async def _public(stage: Stage) -> None:
    client = await stage.enter("C")
    await client.subscribe("news")
    await stage.post(EVENTS, {"name": "headline", "channels": ["news"], "data": '{"t":"Rain"}'})
    await client.unsubscribe("news")
    await stage.post(EVENTS, {"name": "headline", "channels": ["news"], "data": '{"t":"Sun"}'})


async def _private(stage: Stage) -> None:
    client = await stage.enter("C")
    await client.subscribe("private-orders.7")
    await client.say("pusher:subscribe", {"auth": "k3y0example:0000", "channel": "private-orders.8"})


async def _presence(stage: Stage) -> None:
    one = await stage.enter("C17a")
    watcher = await stage.enter("C23")
    await watcher.subscribe("presence-desk", IVO)
    await one.subscribe("presence-desk", NOOR)
    other = await stage.enter("C17b")
    await other.subscribe("presence-desk", NOOR)
    await one.leave()
    await other.leave()


async def _client_events(stage: Stage) -> None:
    watcher = await stage.enter("C23")
    await watcher.subscribe("presence-desk", IVO)
    sender = await stage.enter("C17")
    await sender.subscribe("presence-desk", NOOR)
    for number in range(11):
        await sender.say("client-typing", {"on": not number % 2}, channel="presence-desk")
    await watcher.subscribe("private-orders.7")
    await sender.subscribe("private-orders.7")
    await stage.wait(1)
    await sender.say("client-note", "of any type", channel="private-orders.7")


async def _cache(stage: Stage) -> None:
    first = await stage.enter("C1")
    await first.subscribe("cache-rate")
    await stage.post(EVENTS, {"name": "tick", "channel": "cache-rate", "data": "1.07"})
    second = await stage.enter("C2")
    await second.subscribe("cache-rate")


async def _users(stage: Stage) -> None:
    client = await stage.enter("C17")
    watched = await stage.enter("C23")
    await watched.sign_in('{"id":"23"}')
    await client.sign_in('{"id":"17","watchlist":["23"]}')
    await client.subscribe("#server-to-user-17")
    await stage.post(EVENTS, {"name": "note", "channel": "#server-to-user-17", "data": "{}"})
    await stage.post("/users/17/terminate_connections", {})


async def _batch(stage: Stage) -> None:
    clients = [await stage.enter(name) for name in ("C1", "C2", "C3")]
    for client in clients:
        await client.subscribe("news")
    for client in clients[:2]:
        await client.subscribe("private-orders.7")
    events = [
        {"name": "a", "channel": "news", "data": "1", "info": "subscription_count"},
        {"name": "b", "channel": "private-orders.7", "data": "2", "socket_id": clients[0].socket_id},
    ]
    await stage.post("/apps/9001/batch_events", {"batch": events})


async def _queries(stage: Stage) -> None:
    for name, member in ("C17", NOOR), ("C23", IVO):
        client = await stage.enter(name)
        await client.subscribe("presence-desk", member)
    await stage.get("/apps/9001/channels", filter_by_prefix="presence-", info="user_count")
    await stage.get("/apps/9001/channels/nobody-here")
    await stage.get("/apps/9001/channels/presence-desk/users")


# — and what it tells without an example —


async def _counts(stage: Stage) -> None:
    one = await stage.enter("C1")
    await one.subscribe("news")
    other = await stage.enter("C2")
    await other.subscribe("news")
    await stage.wait(1)
    await other.unsubscribe("news")
    await stage.wait(6)


async def _refused(stage: Stage) -> None:
    client = await stage.enter("C")
    await client.subscribe("no spaces")
    await client.subscribe("#server-to-user-17")
    await client.subscribe("presence-desk")
    await client.say("client-typing", {}, channel="news")
    await client.say("pusher:shout", {})
    await client.say_text("garbage")
    await client.say("pusher:subscribe", "garbage")
    await client.unsubscribe("news")
    await stage.enter("D", protocol="3")


async def _data(stage: Stage) -> None:
    client = await stage.enter("C")
    await client.subscribe("news")
    for data in POSTED:
        await stage.post(EVENTS, {"name": "App\\Events\\Told", "channel": "news", "data": data})


async def _resume(stage: Stage) -> None:
    client = await stage.enter("C", resume="1")
    await client.subscribe("news")
    await stage.post(EVENTS, {"name": "a", "channel": "news", "data": "1"})
    resume = {"offset": 1, "epoch": stage.epoch("shop:news")}
    await client.leave()
    await stage.post(EVENTS, {"name": "b", "channel": "news", "data": "2"})
    again = await stage.enter("C", resume="1")
    await again.subscribe("news", resume=resume)


async def _pings(stage: Stage) -> None:
    client = await stage.enter("C")
    await stage.wait(25)
    await client.say("pusher:pong", {})
    await stage.wait(60)


SCENES = (
    Scene("connect", "1. Connect and ping", _connect),
    Scene("unknown_key", "2. Refusal of an unknown key", _unknown_key),
    Scene("public", "3. Public subscribe, publish, unsubscribe", _public),
    Scene("private", "4. Private channel, good then bad signature", _private),
    Scene("presence", "5. Presence: user 17 opens two tabs, user 23 watches", _presence),
    Scene("client_events", "6. Client events, and the eleventh within a second", _client_events),
    Scene("cache", "7. Cache channel: miss, then hit", _cache),
    Scene("users", "8. Sign-in, inbox, watchlist, kick", _users),
    Scene("batch", "9. Batch with info and exclusion", _batch),
    Scene("queries", "10. State queries", _queries),
    Scene("counts", "How many there are", _counts, {"subscription_counts": True}, {"enable_subscription_counts": True}),
    Scene("refused", "What is refused, and the connection stays", _refused),
    Scene("data", "Data as they were posted", _data),
    Scene("resume", "A client that returns gets what it has missed, as an extension", _resume),
    Scene("pings", "Pings of the server, and nobody answers", _pings),
)
