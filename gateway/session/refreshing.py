"""Refresh: a connection goes on by another token.

Source: Centrifuge protocol, "Connection life cycle", "JWT".
"""

from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import RefreshRequest, RefreshResult
from gateway.session.application import AS_THE_OPTIONS_SAY, NO_APPLICATION, Admission
from gateway.session.session import Session
from gateway.session.tokens import check_moment, fetch_key, lacks_key, verified
from gateway.version import __version__


async def refresh(session: Session, command_id: int, request: RefreshRequest) -> None:
    """A new token: the connection ends with it, also one that had no end before."""
    if not request.token or not session.refreshable:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    if lacks_key(session.tokens, request):
        await fetch_key(session, request)
    renewed = await _renewed(session, request)
    if renewed.user != session.user:
        raise Disconnect(DisconnectCode.INVALID_TOKEN)
    if renewed.subs.keys() != session.granted:
        raise Disconnect(DisconnectCode.INSUFFICIENT_STATE)
    check_moment(session.node, renewed.expire_at)
    if session.application is not NO_APPLICATION:
        session.token = request.token
    session.expire(renewed.expire_at)
    session.keep(renewed)
    session.answer(command_id, RefreshResult(session.client, __version__, *session.lasts(renewed.expire_at)))


async def _renewed(session: Session, request: RefreshRequest) -> Admission:
    """What the new token says, or the program of it. Raises if it is not good.

    One that has expired closes the connection: clients take an error for the end, but return from 3005, and then
    hear by 109 that they need another token.
    """
    refresh = session.application.refresh
    if refresh is None:
        return _by_token(session, request.token)
    known = _by_token(session, request.token) if session.tokens.has_keys else None
    if known is not None:
        check_moment(session.node, known.expire_at)
    try:
        renewed = await refresh(session, request, known)
    except Error as error:
        if error.code != ErrorCode.TOKEN_EXPIRED:
            raise
        raise Disconnect(DisconnectCode.EXPIRED) from None
    if session.closed:
        raise Disconnect(DisconnectCode.CONNECTION_CLOSED)
    check_moment(session.node, renewed.expire_at, DisconnectCode.EXPIRED)
    return renewed


def _by_token(session: Session, text: str) -> Admission:
    token = verified(session.tokens.connection, text, expired=DisconnectCode.EXPIRED)
    subs = dict.fromkeys(token.subs, AS_THE_OPTIONS_SAY)
    return Admission(token.user, token.expire_at, token.info, subs, meta=token.meta)
