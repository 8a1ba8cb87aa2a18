"""Nothing is left of connections of the Pusher protocol that are over."""

import json
from typing import Any

import pytest

from gateway.apps.signatures import sign
from tests.callers import Caller
from tests.leftovers import assert_freed
from tests.transports.test_freed import Server, serving

KEY, SECRET = "k3y0example", "s3cr3t-example"
APP = {"id": "9001", "key": KEY, "secret": SECRET, "enable_client_messages": True, "enable_watchlists": True}


def established(callers: list[Caller]) -> list[str]:
    """The socket id of each."""
    return [json.loads(each.hear()[0]["data"])["socket_id"] for each in callers]


def say(caller: Caller, event: str, data: Any, **more: Any) -> None:
    caller.text(json.dumps({"event": event, "data": data, **more}))


def busy(callers: list[Caller]) -> None:
    """Members of a room, signed in, refused something, told of each other."""
    for each, socket_id in zip(callers, established(callers), strict=True):
        user = f'{{"user_id":"{socket_id}"}}'
        auth = f"{KEY}:{sign(SECRET, socket_id, 'presence-room', user)}"
        say(each, "pusher:subscribe", {"channel": "presence-room", "auth": auth, "channel_data": user})
        assert each.hear()[0]["event"] == "pusher_internal:subscription_succeeded"
        say(each, "pusher:subscribe", {"channel": "private-x", "auth": "forged"})
        user = '{"id":"17","watchlist":["23"]}'
        auth = f"{KEY}:{sign(SECRET, socket_id, '', 'user', '', user)}"
        say(each, "pusher:signin", {"auth": auth, "user_data": user})
        say(each, "client-x", 1, channel="presence-room")
        say(each, "cache", 1)
        while each.hear()[0]["event"] != "pusher_internal:watchlist_events":
            pass


@pytest.mark.parametrize("end", ["leave", "reset", "server", "refused", "nothing"])
async def test_nothing_is_left(end: str) -> None:
    async with serving(pusher={"enabled": True, "apps": [APP]}) as server:

        def clients(callers: list[Caller], server: Server) -> None:
            if end == "refused":
                assert {each.hear()[0]["data"]["code"] for each in callers} == {4001}
                assert {each.code() for each in callers} == {4001}
                return
            if end != "nothing":
                busy(callers)
            if end == "server":
                server.do(server.drain())
                assert {each.code() for each in callers} == {4200}
                server.node.draining = False
                return
            for each in callers:
                (each.reset if end == "reset" else each.leave)()

        path = "/app/nobody" if end == "refused" else f"/app/{KEY}"
        await assert_freed(lambda: server.call(clients, path=path))
