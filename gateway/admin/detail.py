"""One connection on whichever node it is: all that is known of it, and its end."""

import msgspec
from msgspec import Raw, Struct

from gateway.admin.connections import row_of, shown_of
from gateway.admin.messages import CloseRequest, ConnectionRequest, ConnectionResult, SubscriptionShown
from gateway.auth.permissions import is_json
from gateway.core.hub import Hub
from gateway.core.node import Node
from gateway.core.survey import PAGE_BYTES
from gateway.errors import Disconnect, Error, ErrorCode
from gateway.messages import Position
from gateway.protocols.centrifuge_json import encode
from gateway.session import Session
from gateway.session.subscription import Subscription
from gateway.web.api_messages import Done

CONNECTION, CLOSE = "admin.connection", "admin.close"
"""The questions."""

GONE = b"null"

LARGEST_INFO, LONGEST_USER = 20_000, 5_000
"""Bytes of a connection's info, and characters of its user's id: beside them there is room for subscriptions."""


class Closing(Struct, array_like=True):
    client: str
    code: int
    reason: str


_decode_closing = msgspec.json.Decoder(Closing).decode
_decode_request = msgspec.json.Decoder(ConnectionRequest).decode


# — the node that asks —


async def connection(node: Node, request: ConnectionRequest) -> Raw:
    """A `ConnectionResult`, as its node has written it."""
    return Raw(await _ask(node, CONNECTION, msgspec.json.encode(request), request))


async def close(node: Node, request: CloseRequest) -> Done:
    try:
        reason = Disconnect(request.code, request.reason).check()
    except ValueError as error:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: {error}") from error
    await _ask(node, CLOSE, msgspec.json.encode(Closing(request.client, reason.code, reason.reason)), request)
    return Done()


async def _ask(node: Node, kind: str, argument: bytes, request: ConnectionRequest | CloseRequest) -> bytes:
    """What the connection's node answers. Raises ``Error``: not found, or temporary where the node is silent."""
    if not (request.node and request.client):
        raise Error(ErrorCode.BAD_REQUEST, "bad request: node and client must be given")
    known = {info.uid for info in node.cluster.nodes()}
    told = await node.cluster.ask(kind, argument.decode(), request.node)
    answer: bytes = told.answers.get(request.node, GONE)
    if told.missing and request.node in known:
        raise Error(ErrorCode.INTERNAL, f"node {told.missing[0]} does not answer, try again")
    if answer == GONE:
        raise Error(ErrorCode.METHOD_NOT_FOUND)
    return answer


# — the node that is asked —


async def tell_connection(node: Node, argument: str) -> bytes:
    request = _decode_request(argument)
    session = node.hub.connections.get(request.client)
    if not isinstance(session, Session):
        return GONE
    result = ConnectionResult(
        connection=shown_of(row_of(node, session, LONGEST_USER)),
        expire_at=session.expire_at,
        user_agent=session.user_agent,
        info=_info(session),
        subscriptions=[],
        cursor="",
    )
    room = PAGE_BYTES - len(encode(result))
    for name in sorted(each for each in session.subscriptions if each > request.cursor):
        shown = _shown(node.hub, session.subscriptions[name])
        room -= len(encode(shown)) + 1
        if room < 0 and result.subscriptions:
            result.cursor = result.subscriptions[-1].channel
            break
        result.subscriptions.append(shown)
    return encode(result)


async def tell_closed(node: Node, argument: str) -> bytes:
    closing = _decode_closing(argument)
    session = node.hub.connections.get(closing.client)
    if session is None:
        return GONE
    session.disconnect(Disconnect(closing.code, closing.reason))
    return b"true"


def _shown(hub: Hub, subscription: Subscription) -> SubscriptionShown:
    shown = SubscriptionShown(
        subscription.channel,
        subscription.state.name.lower(),
        subscription.server_side,
        subscription.positioned,
        subscription.recoverable,
    )
    if subscription.positioned and (position := _position(hub, subscription)):
        shown.offset, shown.epoch = position.offset, position.epoch
    return shown


def _position(hub: Hub, subscription: Subscription) -> Position | None:
    """Where it stands in its channel's stream, as the node knows it."""
    channel = hub.channels.get(subscription.channel)
    if channel is None:
        return None
    mine = (key for key, audience in channel.audiences.items() if subscription in audience.members)
    return next((key.behind or channel.position for key in mine), None)


def _info(session: Session) -> Raw:
    if session.info is None or not is_json(session.info):
        return Raw(b"null")
    return Raw(session.info if len(session.info) <= LARGEST_INFO else b'"too large to be shown"')
