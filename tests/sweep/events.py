"""The events of which pairs are made. Each begins when it is called, and goes on in tasks of its own."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode
from tests.sweep.slow import turns
from tests.sweep.world import ROOM, ROOMS, Page, World

Event = Callable[[World, Page], None]

OUTAGE = 12
"""Turns for which the broker is away, or does not answer."""


def connect(world: World, alice: Page) -> None:
    """With subscriptions that the server makes."""
    alice.say("connect", token=world.token(), subs={room: {} for room in ROOMS})


def connect_bare(world: World, alice: Page) -> None:
    alice.say("connect", token=world.token())


def subscribe(_world: World, alice: Page) -> None:
    alice.say("subscribe", channel=ROOM)


def unsubscribe(_world: World, alice: Page) -> None:
    alice.say("unsubscribe", channel=ROOM)


def api_subscribe(world: World, _alice: Page) -> None:
    world.spawn(_give(world.gateway.subscribe("alice", ROOM)))


def api_unsubscribe(world: World, _alice: Page) -> None:
    world.spawn(_give(world.gateway.unsubscribe("alice", ROOM)))


def api_give_and_take(world: World, alice: Page) -> None:
    """Both in one breath, in this order."""
    api_subscribe(world, alice)
    api_unsubscribe(world, alice)


def api_take_and_give(world: World, alice: Page) -> None:
    api_unsubscribe(world, alice)
    api_subscribe(world, alice)


def api_disconnect(world: World, _alice: Page) -> None:
    world.spawn(_give(world.gateway.disconnect("alice")))


def api_refresh(world: World, _alice: Page) -> None:
    world.spawn(_give(world.gateway.expire("alice", at=int(world.clock()) + 3600)))


def api_expire(world: World, _alice: Page) -> None:
    world.spawn(_give(world.gateway.expire("alice")))


def close(_world: World, alice: Page) -> None:
    """The client goes."""
    alice.end()


def drain(_world: World, alice: Page) -> None:
    """The node stops: it sends its clients away."""
    if not alice.gone:
        alice.session.disconnect(Disconnect(DisconnectCode.SHUTDOWN))


def broker_away(world: World, _alice: Page) -> None:
    world.line.down = True
    world.spawn(_return(world))


def broker_silent(world: World, _alice: Page) -> None:
    world.line.hold()
    world.spawn(_return(world))


CONNECTS = (connect, connect_bare)
COMMANDS = (subscribe, unsubscribe)
API = (
    api_subscribe,
    api_unsubscribe,
    api_give_and_take,
    api_take_and_give,
    api_disconnect,
    api_refresh,
    api_expire,
)
REST = (close, drain, broker_away, broker_silent)
EVENTS: tuple[Event, ...] = (*CONNECTS, *COMMANDS, *API, *REST)

GIVES = (api_subscribe, api_take_and_give)
TAKES = (api_unsubscribe, api_give_and_take)
"""Those whose last word about the room is that the client has it, or has it not."""


async def _return(world: World) -> None:
    await turns(OUTAGE)
    world.line.restore()


async def _give(command: Coroutine[Any, Any, None]) -> None:
    with suppress(BrokerUnavailable):  # the other nodes were not told
        await command
