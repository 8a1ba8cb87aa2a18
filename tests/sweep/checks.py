"""What must be right, whatever came between. Each check yields what is wrong, in words."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.sweep.world import ROOM, ROOMS, Page, World


def believed(alice: Page) -> set[str]:
    """The rooms in which the client takes itself to be, by what it was told."""
    rooms: set[str] = set()
    for message in [] if alice.gone else alice.read():
        if "connect" in message:
            rooms |= set(message["connect"].get("subs", {}))
        elif "subscribe" in message:  # an answer, to a command that is always about this room, or a push
            rooms.add(message.get("channel", ROOM))
        elif "unsubscribe" in message:
            rooms.discard(message.get("channel", ROOM))
    return rooms


def check_state(world: World, alice: Page) -> Iterator[str]:
    """What the client was told fits the state, as far as it is still there."""
    rooms = believed(alice)
    if not alice.gone and (held := set(alice.session.subscriptions)) != rooms:
        yield f"told {_names(rooms)}, but the session has {_names(held)}"
    for room in ROOMS:
        if (count := world.subscribers(room)) != (room in rooms):
            yield f"told {_names(rooms)}, but {room} has {count} of its subscriptions in the hub"
        if (present := alice.client in world.present(room)) != (room in rooms):
            yield f"told {_names(rooms)}, but its presence in {room} is {present}"
    yield from _check_messages(alice)


def check_joins(world: World, alice: Page) -> Iterator[str]:
    """Before each leave there was its join, and after each join comes its leave. The client has gone."""
    if world.observer is None:
        return
    for room in ROOMS:
        heard = [
            kind
            for message in world.observer.read()
            for kind in ("join", "leave")
            if kind in message and message["channel"] == room and message[kind]["info"]["client"] == alice.client
        ]
        if not _paired(heard, "join", "leave"):
            yield f"{room} heard {heard or 'nothing'}"


def check_program(world: World, alice: Page, *, given: bool) -> Iterator[str]:
    """Who was let in also leaves, once, and the end of a connection is told last.

    Where the server may have ``given`` a subscription the program, which was not asked, hears of ends alone.
    """
    told = [(event, room) for event, client, room in world.told if client == alice.client]
    if [event for event, room in told if not room] not in ([], ["connect", "disconnect"]):
        yield f"the program was told {told}"
    elif told and told[-1][0] != "disconnect":
        yield f"the program was told {told}, the end of the connection not last"
    for room in ROOMS:
        heard = [event for event, where in told if where == room]
        if given:
            heard = [event for event, before in zip(heard, ["", *heard], strict=False) if event != before]
            heard = heard[heard[:1] == ["unsubscribe"] :]
        if not _paired(heard, "subscribe", "unsubscribe"):
            yield f"the program was told of {room}: {heard}"


def check_gone(world: World, alice: Page) -> Iterator[str]:
    """Nothing is left of a client."""
    hub = world.gateway.node.hub
    if alice.client in hub.connections or "alice" in hub.users:
        yield "the hub still has the connection"
    if alice.session in world.gateway.running.acceptor.sessions:
        yield "the acceptor still has the session"
    for room in ROOMS:
        if count := world.subscribers(room):
            yield f"{room} still has {count} subscriptions"
        if alice.client in world.present(room):
            yield f"it is still present in {room}"
    if (timers := world.timers) != world.own_timers:
        yield f"the wheel has {timers} timers, and had {world.own_timers}"
    yield from world.left_open()
    if world.failures.texts:
        yield f"logged: {world.failures.texts}"
        world.failures.texts.clear()


def _check_messages(alice: Page) -> Iterator[str]:
    """Each command was answered once, and nothing of a channel came outside a subscription."""
    answered = [message["id"] for message in alice.read() if "id" in message]
    if len(answered) != len(set(answered)) or (not alice.gone and len(answered) != alice.asked):
        yield f"{alice.asked} commands had answers {answered}"
    yield from _check_stream(alice)
    if not alice.gone and (deaf := believed(alice) - {each["channel"] for each in alice.read() if _is_last(each)}):
        yield f"deaf in {_names(deaf)}"


def _is_last(message: dict[str, Any]) -> bool:
    """Whether it is the publication that was sent when it was quiet."""
    return "pub" in message and message["pub"]["data"] == "last"


def _check_stream(alice: Page) -> Iterator[str]:
    """Nothing of a channel comes outside a subscription, and its publications come one after the other."""
    at: dict[str, int] = {}
    for message in alice.read():
        room = message.get("channel", ROOM)
        if "connect" in message:
            at |= {name: result.get("offset", 0) for name, result in message["connect"].get("subs", {}).items()}
        elif "subscribe" in message:
            told = message["subscribe"].get("offset", 0)
            if room in at and ("id" in message or told != at[room]):  # the API may order it again: then nothing changes
                yield f"told again that it is subscribed to {room}, at {told} where it stands at {at[room]}"
            at[room] = told
        elif "unsubscribe" in message:
            at.pop(room, None)
        elif {"pub", "join", "leave"} & set(message) and room not in at:
            yield f"heard {message} outside a subscription"
        elif "pub" in message:
            at[room] += 1
            if message["pub"]["offset"] != at[room]:
                yield f"{room}: publication {message['pub']['offset']} came where {at[room]} was to come"


def _paired(heard: Sequence[str], begin: str, end: str) -> bool:
    return list(heard) == [begin, end] * (len(heard) // 2)


def _names(rooms: set[str]) -> str:
    return ", ".join(sorted(rooms)) or "none"
