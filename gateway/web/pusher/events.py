"""Events of backends: checked whole before the first of them is published."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import decode, encode

from gateway.apps.base import App
from gateway.auth.permissions import check_payload, is_json
from gateway.brokers.base import PublishOptions
from gateway.channels import Channel
from gateway.config.settings.channels import STREAM_TYPES
from gateway.core.node import Node
from gateway.core.tasks import at_once
from gateway.errors import Error, ErrorCode
from gateway.kinds import is_name, kind_of
from gateway.messages import Exclusion, Payload, Publication
from gateway.protocols.pusher import EVENT, FORMAT, TEXT, is_socket_id
from gateway.web.bodies import reader

RESERVED = ("pusher:", "pusher_internal:")
"""Begin the names of the protocol's own events."""

TIME = "time"
"""Tag of what a cache channel keeps: when it was published, in milliseconds, which tells how long it stays."""

TOO_LARGE = 413


class PostedEvent(Struct):
    """An event as a backend posts it."""

    name: str = ""
    data: Raw = Raw()
    channels: list[str] = []
    channel: str = ""
    socket_id: str = ""
    info: str = ""


class PostedBatch(Struct):
    """Several at once."""

    batch: list[PostedEvent] | None = None


read_event, read_batch = reader(PostedEvent), reader(PostedBatch)


class CheckedEvent(NamedTuple):
    """An event that may be published: for each channel, what its subscribers get."""

    names: list[str]
    """Those of the channels, each once, as the backend calls them."""
    publications: list[tuple[Channel, Publication]]


async def publish_event(
    node: Node, app: App, name: str, data: str, channels: Sequence[str], socket_id: str = "", idempotency_key: str = ""
) -> None:
    """Publish an event to channels by their names in the protocol; the connection of ``socket_id`` does not get it.

    Raises ``Error``: 107 for what cannot be, 413 for too much data, and ``BrokerUnavailable``.
    """
    await send(node, [check_event(node, app, name, data, channels, socket_id)], idempotency_key)


def check_event(
    node: Node, app: App, name: str, data: str, channels: Sequence[str], socket_id: str = ""
) -> CheckedEvent:
    """The event, if the app may publish it. Raises ``Error`` as ``publish_event`` does."""
    _check_name(app, name)
    names = list(dict.fromkeys(channels))
    _check_channels(app, names)
    if socket_id and not is_socket_id(socket_id):
        raise bad("socket_id must be the one that a client was told, as 48213.907714")
    exclude = Exclusion(clients=(socket_id,)) if socket_id else None
    payload, tags = _payload(app, data), {EVENT: name}
    if not is_json(payload):
        payload, tags[FORMAT] = Payload(encode(data)), TEXT
    return CheckedEvent(names, [_addressed(node, app, each, payload, tags, exclude) for each in names])


def posted_event(node: Node, app: App, posted: PostedEvent) -> CheckedEvent:
    """What is posted, checked. Raises ``Error``."""
    channels = posted.channels or ([posted.channel] if posted.channel else [])
    return check_event(node, app, posted.name, _text(posted.data), channels, posted.socket_id)


async def send(node: Node, events: Sequence[CheckedEvent], idempotency_key: str = "") -> None:
    """Publish events: to each channel in their order, and to all channels at a time.

    A repeat with the same key publishes nothing. Raises ``BrokerUnavailable``.
    """
    by_channel: dict[str, list[tuple[Channel, Publication, PublishOptions]]] = {}
    for number, event in enumerate(events):
        options = PublishOptions(idempotency_key=f"{idempotency_key}:{number}" if idempotency_key else "")
        for channel, publication in event.publications:
            by_channel.setdefault(channel.name, []).append((channel, publication, options))

    async def in_order(some: Sequence[tuple[Channel, Publication, PublishOptions]]) -> None:
        for each in some:
            await node.publish(*each)

    if len(by_channel) == 1:  # without a task, for that is what most calls are
        await in_order(*by_channel.values())
    else:
        await at_once(in_order, list(by_channel.values()))


def bad(problem: str) -> Error:
    return Error(ErrorCode.BAD_REQUEST, f"bad request: {problem}")


def _check_name(app: App, name: str) -> None:
    longest = app.settings.max_event_name_length
    if not 0 < len(name) <= longest:
        raise bad(f"name must be given, with at most {longest} characters")
    if name.startswith(RESERVED):
        raise bad("name begins as the protocol's own events do: pusher: and pusher_internal: are not for others")
    _bytes("name", name)


def _check_channels(app: App, names: Sequence[str]) -> None:
    most = app.settings.max_event_channels
    if not 0 < len(names) <= most:
        raise bad(f"channels must be a list of 1 to {most} channels, or channel be one")
    for name in names:
        check_channel(app, name)
    if len(names) > 1 and any(kind_of(each).name == "encrypted" for each in names):
        raise bad("each encrypted channel has a key of its own: publish to one at a time")


def check_channel(app: App, name: str) -> None:
    """Raises ``Error`` for what no channel of the app can be called."""
    if not is_name(name, app.settings.max_channel_name_length):
        raise bad(f"{name!r:.100} is no channel: letters, digits and _-=@,.; as in private-orders.7")


def _payload(app: App, data: str) -> Payload:
    payload = _bytes("data", data)
    if len(payload) > app.settings.max_event_size:
        raise Error(TOO_LARGE, f"data has {len(payload)} bytes, and may have {app.settings.max_event_size}")
    return Payload(payload)


def _addressed(
    node: Node, app: App, name: str, payload: Payload, tags: dict[str, str], exclude: Exclusion | None
) -> tuple[Channel, Publication]:
    channel = node.channels.resolve(app.names.inside(name))
    if channel.options.subscription_type not in STREAM_TYPES:
        raise bad(f"{name} is a map, or polled: nobody publishes events there")
    try:
        check_payload(channel.options, payload, known_json=True)
    except Error:
        raise bad(f"data for {name} must be a JSON object") from None
    if kind_of(name).cached:
        tags = {**tags, TIME: str(int(node.clock() * 1000))}
    return channel, Publication(payload, tags=tags, exclude=exclude)


def _text(data: Raw) -> str:
    """Data as a string: what is none is written as JSON, once. Raises ``Error``."""
    written = bytes(data)
    if not written:
        raise bad("data must be given")
    try:
        value = decode(written)
    except (DecodeError, RecursionError) as error:
        raise bad(f"data is not JSON: {error}") from None
    return value if isinstance(value, str) else written.decode()


def _bytes(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise bad(f"{what} has half a character") from None
