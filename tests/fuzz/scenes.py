"""Scenes: what clients send, what the server's API does, and how time passes, as bytes, for a fuzzer to change."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from gateway.core.cluster import DisconnectUser, RefreshUser, SendMessage, SubscribeUser, UnsubscribeUser
from gateway.errors import Disconnect, Error
from gateway.maps.base import MapWrite
from gateway.messages import Payload, Publication
from gateway.protocols.base import Wire
from tests.fuzz.ground import PROGRAM, PROTOCOLS, Ground, Loop
from tests.fuzz.options import CHANNELS, MAPS
from tests.fuzz.told import Told

STEP = b"\n--\n"
"""Between two steps of a scene."""

MOMENTS = (1, 3, 10, 60, 280, 700)
"""Tenths of a second that a step may wait."""


async def play(loop: Loop, scene: bytes) -> Told:
    """What was told in one scene: a byte for the wire, then its steps. Raises whatever is found."""
    kind = scene[0] if scene else 0
    protocol, emulated = PROTOCOLS[kind % len(PROTOCOLS)]
    ground = Ground(loop, Wire(protocol(), bytes, emulated=emulated), program=kind >= PROGRAM)
    await ground.open()
    try:
        for step in scene[1:].split(STEP)[:40]:
            await take(ground, step)
    finally:
        await ground.end()
    return ground.told


async def take(ground: Ground, step: bytes) -> None:
    """One step of a scene: a letter, and what it is about. Anything else is a frame."""
    if (verb := VERBS.get(step[:1])) is not None and len(step) > 1:
        await verb(ground, step[1], step[2:])
    else:
        await ground.say(step[1:] if step[:1] == b">" else step)
    await ground.quiet()


Verb = Callable[[Ground, int, bytes], Awaitable[None]]


def _channel(number: int) -> str:
    return CHANNELS[number % len(CHANNELS)]


async def _wait(ground: Ground, number: int, _rest: bytes) -> None:
    await ground.pass_time(MOMENTS[number % len(MOMENTS)])


async def _publish(ground: Ground, number: int, rest: bytes) -> None:
    channel, tags = _channel(number), {"t": "ab"[len(rest) % 2], "n": str(len(rest))}
    publication = Publication(Payload(rest), tags=tags if number > 127 else None, binary=not _is_json(rest))
    with suppress(Error):
        await ground.node.publish(ground.node.channels.resolve(channel), publication)


async def _put(ground: Ground, number: int, rest: bytes) -> None:
    channel = ground.node.channels.resolve(MAPS[number % len(MAPS)])
    key, tags = "abcdef"[len(rest) % 6], {"t": "ab"[number % 2]}
    publication = Publication(Payload(rest), key=key, tags=tags, binary=bool(rest) and not _is_json(rest))
    with suppress(Error):
        await ground.node.maps.publish(channel, publication)


async def _remove(ground: Ground, number: int, rest: bytes) -> None:
    channel = ground.node.channels.resolve(MAPS[number % len(MAPS)])
    with suppress(Error):
        await ground.node.maps.remove(channel, "abcdef"[len(rest) % 6], MapWrite())


async def _clear(ground: Ground, number: int, _rest: bytes) -> None:
    channel = MAPS[number % len(MAPS)]
    await ground.node.maps.store.clear(channel)
    ground.node.maps.cleared(channel)


async def _message(ground: Ground, _number: int, rest: bytes) -> None:
    ground.rig.control(SendMessage(client=ground.session.client, data=Payload(rest), binary=not _is_json(rest)))


async def _subscribe(ground: Ground, number: int, rest: bytes) -> None:
    with suppress(Error):
        channel = ground.node.channels.resolve(_channel(number))
        if not channel.options.is_map and not channel.options.is_polled:
            data = Payload(rest) if _is_json(rest) else None
            expire_at = int(ground.rig.clock()) + 40 if number > 127 else 0
            ground.rig.control(
                SubscribeUser(client=ground.session.client, channel=channel.name, data=data, expire_at=expire_at)
            )


async def _unsubscribe(ground: Ground, number: int, _rest: bytes) -> None:
    code = 2500 if number > 127 else 2000
    ground.rig.control(
        UnsubscribeUser(client=ground.session.client, channel=_channel(number), code=code, reason="server unsubscribe")
    )


async def _refresh(ground: Ground, number: int, _rest: bytes) -> None:
    now = int(ground.rig.clock())
    ground.rig.control(RefreshUser(client=ground.session.client, expire_at=now + number if number > 9 else 0))


async def _disconnect(ground: Ground, _number: int, _rest: bytes) -> None:
    ground.rig.control(DisconnectUser(client=ground.session.client, code=3503, reason="force disconnect"))


async def _other(ground: Ground, number: int, rest: bytes) -> None:
    """What the other client does: it comes, goes, or says something."""
    kind = ("subscribe", "unsubscribe", "publish")[number % 3]
    body: dict[str, Any] = {"channel": _channel(rest[0] if rest else 1)}
    if kind == "publish":
        body["data"] = number
    with suppress(Disconnect):
        await ground.other.receive(json.dumps({"id": 2, kind: body}).encode())


VERBS: dict[bytes, Verb] = {
    b"t": _wait,
    b"p": _publish,
    b"k": _put,
    b"x": _remove,
    b"c": _clear,
    b"m": _message,
    b"s": _subscribe,
    b"u": _unsubscribe,
    b"r": _refresh,
    b"d": _disconnect,
    b"o": _other,
}


def _is_json(data: bytes) -> bool:
    try:
        data.decode()
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
