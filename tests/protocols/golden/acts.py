"""What happens in a scene beside what its client says: publications, the server's API, other clients, time."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.cluster import (
    ControlCommand,
    DisconnectUser,
    RefreshUser,
    SendMessage,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.core.poll_values import Value
from gateway.maps.base import MapWrite
from gateway.messages import Payload, Publication
from tests.protocols.golden.stage import Act, Stage, in_json
from tests.session.rig import NOW

CLIENT = "00000000-0000-4000-8000-0000000000c1"


def publish(channel: str, *values: Any, **tags: str) -> Act:
    """Bytes are no JSON."""

    async def do(stage: Stage) -> None:
        resolved = stage.node.channels.resolve(channel)
        for value in values:
            binary = isinstance(value, bytes)
            data = Payload(value if binary else in_json(value))
            await stage.node.publish(resolved, Publication(data, tags=tags or None, binary=binary))

    return Act(f"published in {channel}: {_listed(values)}" + (f" with {tags}" if tags else ""), do)


def put(channel: str, key: str, value: Any, **tags: str) -> Act:
    async def do(stage: Stage) -> None:
        publication = Publication(Payload(in_json(value)), key=key, tags=tags or None)
        await stage.node.maps.publish(stage.node.channels.resolve(channel), publication)

    return Act(f"{key} of {channel} is now {_listed([value])}" + (f" with {tags}" if tags else ""), do)


def remove(channel: str, key: str) -> Act:
    async def do(stage: Stage) -> None:
        await stage.node.maps.remove(stage.node.channels.resolve(channel), key, MapWrite())

    return Act(f"{key} of {channel} is removed", do)


def clear(channel: str) -> Act:
    async def do(stage: Stage) -> None:
        await stage.node.maps.store.clear(channel)
        stage.node.maps.cleared(channel)

    return Act(f"{channel} is cleared", do)


def lose_position(channel: str) -> Act:
    async def do(stage: Stage) -> None:
        stage.session.subscriptions[channel].lose_position(None)

    return Act(f"something was missed in {channel}", do)


def answers(*values: Value) -> Act:
    """What the backend of polls says when it is asked next."""

    async def do(stage: Stage) -> None:
        stage.values = list(values)

    told = ", ".join(f"{each.key} {'removed' if each.removed else each.data!r} {each.version}" for each in values)
    return Act(f"the backend has news: {told}", do)


def wait(seconds: float) -> Act:
    async def do(stage: Stage) -> None:
        await stage.pass_time(round(seconds * 10))

    return Act(f"{seconds:g} seconds pass", do)


def other(kind: str, **body: Any) -> Act:
    async def do(stage: Stage) -> None:
        await stage.other.receive(in_json({"id": 2, kind: body}))

    return Act(f"bob says {kind} {_listed([body])}", do)


# — the server's API —


def api_subscribe(channel: str, data: Any = None) -> Act:
    body = None if data is None else Payload(in_json(data))
    return _api(f"subscribe to {channel}", lambda: SubscribeUser(client=CLIENT, channel=channel, data=body))


def api_unsubscribe(channel: str) -> Act:
    return _api(
        f"unsubscribe from {channel}",
        lambda: UnsubscribeUser(client=CLIENT, channel=channel, code=2000, reason="server unsubscribe"),
    )


def api_send(data: Any) -> Act:
    return _api("send a message", lambda: SendMessage(client=CLIENT, data=Payload(in_json(data))))


def api_refresh(seconds: int) -> Act:
    return _api(f"refresh for {seconds} s", lambda: RefreshUser(client=CLIENT, expire_at=int(NOW) + seconds))


def api_disconnect(code: int, reason: str) -> Act:
    return _api("disconnect", lambda: DisconnectUser(client=CLIENT, code=code, reason=reason))


def _api(text: str, command: Callable[[], ControlCommand]) -> Act:
    async def do(stage: Stage) -> None:
        stage.rig.control(command())

    found: Callable[[Stage], Awaitable[object]] = do
    return Act(f"API: {text}", found)


def _listed(values: Any) -> str:
    return ", ".join(value.hex() if isinstance(value, bytes) else json.dumps(value) for value in values)
