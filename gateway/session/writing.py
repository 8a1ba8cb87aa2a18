"""Writing into a map, by a client: set what a key has, or remove it.

Source: Centrifuge protocol, "Client writes to maps".
"""

from contextlib import suppress

from gateway.auth.permissions import check_payload, is_json, may_remove, may_set
from gateway.channels import Channel
from gateway.errors import Error, ErrorCode
from gateway.maps.base import NO_EXTRAS, MapWrite
from gateway.messages import Payload, Publication, PublishRequest, PublishResult
from gateway.session.application import route_of
from gateway.session.life import GONE
from gateway.session.mapping import MAP
from gateway.session.pipeline import Pipeline
from gateway.session.session import Session
from gateway.session.standing import check_may, check_subscribed, info_in, is_subscribed


async def write(session: Session, command_id: int, request: PublishRequest, channel: Channel) -> None:
    """As the program or the options let it. It is a success, too, if that changes nothing."""
    if not channel.options.is_map:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is no map")
    if request.type != MAP:
        raise Error(ErrorCode.PERMISSION_DENIED)
    decide = None
    if (route := route_of(channel)) and (decide := route.map_remove if request.removed else route.map_publish):
        check_subscribed(session, channel, "write", route.publish_unsubscribed)
    else:
        check_may(session, channel, may_remove if request.removed else may_set)
    subscribed = is_subscribed(session, channel)
    change = _change(session, request, channel)
    _check(channel, change)
    extras = NO_EXTRAS
    if decide is not None:
        accepted = await decide(session, channel, change)
        if accepted.change is None:
            session.answer(command_id, PublishResult())
            return
        change, extras = accepted.change, accepted.extras
        _check(channel, change)
    if session.pipeline is None:
        session.pipeline = Pipeline()
    await session.pipeline.add(_write(session, command_id, channel, change, extras, subscribed))


async def _write(
    session: Session, command_id: int, channel: Channel, change: Publication, extras: MapWrite, subscribed: bool
) -> None:
    """``subscribed``: whether the client was when it asked."""
    try:
        if change.removed:
            await session.node.maps.remove(channel, change.key, extras)
        else:
            await session.node.maps.publish(channel, change, extras)
    except Exception as error:
        session.fail(command_id, error)
    else:
        session.answer(command_id, PublishResult())
    left = (subscribed or session.state in GONE) and not is_subscribed(session, channel)
    if left and change.key == session.client and not change.removed:
        session.node.map_presence.landed(channel.name, channel.options, session.client)


def _change(session: Session, request: PublishRequest, channel: Channel) -> Publication:
    """What the client asks for, under the key that is its choice, or as the namespace says."""
    key = request.key
    match channel.options.map.client_key:
        case "client_id":
            key = session.client
        case "user_id":
            key = session.user
            if not key:
                raise Error(ErrorCode.PERMISSION_DENIED)
    if request.removed:
        return Publication(Payload(), key=key, removed=True)
    data = Payload(request.data)
    binary = bool(data) and session.wire.protocol.binary and not is_json(data)
    return Publication(data, info_in(session, channel), key=key, binary=binary)


def _check(channel: Channel, change: Publication) -> None:
    """Raises ``Error`` (bad request) for a key or data that the map does not take."""
    if not 0 < _bytes(change.key) <= channel.options.map.max_key_length:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: key must be given, and not be too long")
    if not change.removed:
        check_payload(channel.options, change.data, known_json=not change.binary)


def _bytes(text: str) -> int:
    with suppress(UnicodeEncodeError):
        return len(text.encode())
    return 0
