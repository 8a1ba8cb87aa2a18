"""One connection on whichever node it is: all that is known of it, and its end."""

import msgspec
from msgspec import Raw, Struct

from gateway.admin.connections import ANSWER_BYTES, row_of, shown_of
from gateway.admin.messages import CloseRequest, ConnectionRequest, ConnectionResult, SubscriptionShown
from gateway.auth.permissions import is_json
from gateway.core.hub import Hub
from gateway.core.node import Node
from gateway.errors import Disconnect, Error, ErrorCode
from gateway.protocols.centrifuge_json import encode
from gateway.session import Session
from gateway.session.subscription import Subscription
from gateway.web.api_messages import Done

CONNECTION, CLOSE = "admin.connection", "admin.close"
"""The questions."""

GONE = b"null"

LARGEST_INFO = 20_000
"""Bytes of a connection's info, beside which there is room for subscriptions."""


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
    answer = told.answers.get(request.node, GONE)
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
    room = ANSWER_BYTES - 1_000
    row = row_of(session, longest=10_000)
    room -= 4 * len(row.user)
    info = b"null" if session.info is None or not is_json(session.info) else bytes(session.info)
    info = info if len(info) <= LARGEST_INFO else b'"too large to be shown"'
    subscriptions, cursor = _subscriptions(node.hub, session, request.cursor, room - len(info))
    return encode(
        ConnectionResult(
            connection=shown_of(row, node.uid, node.describe().name),
            expire_at=session.expire_at,
            user_agent=_user_agent(session),
            info=Raw(info),
            subscriptions=subscriptions,
            cursor=cursor,
        )
    )


async def tell_closed(node: Node, argument: str) -> bytes:
    closing = _decode_closing(argument)
    session = node.hub.connections.get(closing.client)
    if session is None:
        return GONE
    session.disconnect(Disconnect(closing.code, closing.reason))
    return b"true"


def _subscriptions(hub: Hub, session: Session, after: str, room: int) -> tuple[list[SubscriptionShown], str]:
    """The next behind a channel's name, as many as there is room for, and the last name if there are more."""
    shown: list[SubscriptionShown] = []
    for name in sorted(each for each in session.subscriptions if each > after):
        one = _shown(hub, session.subscriptions[name])
        room -= len(encode(one)) + 1
        if room < 0 and shown:
            return shown, shown[-1].channel
        shown.append(one)
    return shown, ""


def _shown(hub: Hub, subscription: Subscription) -> SubscriptionShown:
    shown = SubscriptionShown(
        subscription.channel,
        subscription.state.name.lower(),
        subscription.server_side,
        subscription.positioned,
        subscription.recoverable,
    )
    channel = hub.channels.get(subscription.channel)
    for key, audience in channel.audiences.items() if channel and subscription.positioned else ():
        if subscription in audience.members and (position := key.behind or channel.position):
            shown.offset, shown.epoch = position.offset, position.epoch
    return shown


def _user_agent(session: Session) -> str:
    headers = session.handshake.scope.get("headers", ())
    found = next((value for name, value in headers if name == b"user-agent"), b"")
    return found[:500].decode("latin-1")
