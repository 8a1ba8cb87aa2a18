"""Sign-in: a client says which user it is, which the backend has signed.

Source: Pusher Channels protocol, "User authentication", "Watchlist events".
"""

import logging

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from gateway.apps.signatures import verify_user
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.kinds import INBOX, is_user
from gateway.messages import ClientInfo
from gateway.protocols.pusher import Said, read_data
from gateway.session.pusher import replies
from gateway.session.pusher.members import info_of
from gateway.session.pusher.said import SigningIn
from gateway.session.pusher.session import AppSession
from gateway.session.pusher.watchlists import MOST, Attendance, Watchlist


class _User(Struct):
    id: str
    user_info: Raw = Raw(b"null")
    watchlist: list[str] = []


_user = Decoder(_User).decode


def sign_in(session: AppSession, said: Said) -> None:
    """Sign in; again as the same user changes nothing. A refusal leaves the connection as it was."""
    asked = read_data(said.data, SigningIn)
    try:
        user = _verified(session, asked)
    except ValueError as error:
        _refuse(session, str(error))
        return
    if not session.user:
        _enter(session, user)
    session.say(replies.signed_in(asked.user_data))
    session.authorized()
    if session.app.settings.enable_watchlists:
        _attend(session)
        _watch(session, user.watchlist)


def turn_away(session: AppSession, _said: Said) -> None:
    """Answer one that is over a rate."""
    session.complain("too many sign-ins", error=ErrorCode.TOO_MANY_REQUESTS)


def _refuse(session: AppSession, why: str) -> None:
    what = "%s: sign-in refused: %s"
    session.node.refusals.happened("pusher_sign_in", what, str(session), why, reason=why, level=logging.INFO)
    session.complain(why, error=ErrorCode.PERMISSION_DENIED)


def _verified(session: AppSession, asked: SigningIn) -> _User:
    """The user as whom the client may sign in.

    Raises ``ValueError``, with what is wrong, if it may not, ``Disconnect`` for a user who is blocked.
    """
    app, node = session.app, session.node
    if not app.settings.enable_user_authentication:
        raise ValueError("signing in is not enabled for the app")
    if wrong := verify_user(app, asked.auth, session.client, asked.user_data):
        raise ValueError(wrong)
    user = _read(asked.user_data)
    if user.id in node.blocked:
        raise Disconnect(DisconnectCode.BLOCKED)
    if session.user not in ("", user.id):
        raise ValueError("the connection is signed in as another user")
    if not session.user and 0 < node.client.user_connection_limit <= len(node.hub.of_user(user.id)):
        raise ValueError("the user has too many connections")
    return user


def _read(text: str) -> _User:
    """The user that a text names. Raises ``ValueError``, with what is wrong, for what names none."""
    try:
        user = _user(text)
        info_of(user.user_info)
    except (DecodeError, UnicodeError, RecursionError):
        raise ValueError("user_data must be JSON with an id, a string, and perhaps a watchlist, a list") from None
    except Error as error:
        raise ValueError(error.message) from None
    if not is_user(user.id):
        raise ValueError("id has 1 to 200 of the characters A-Z a-z 0-9 _-=@,.;")
    return user


def _enter(session: AppSession, user: _User) -> None:
    """Be the user's from now on, for the hub too."""
    hub = session.node.hub
    hub.close(session)
    session.user, session.info = user.id, info_of(user.user_info)
    hub.open(session)


def _attend(session: AppSession) -> None:
    """Have others see that the user is online."""
    if session.attendance is None:
        inbox = session.app.names.inside(INBOX + session.user)
        session.attendance = Attendance(session.node, inbox, ClientInfo(session.user, session.client, session.info))


def _watch(session: AppSession, users: list[str]) -> None:
    """Tell the client who of a list is online, and of changes."""
    if len(users) > MOST:
        session.say(replies.failed(replies.WATCHLIST_TOO_LONG, f"the watchlist is too long: the first {MOST} are kept"))
    kept = [user for user in users[:MOST] if is_user(user)]
    if not kept:
        return
    names = session.app.names
    if session.watchlist is None:
        session.watchlist = Watchlist(
            session.node,
            lambda user: names.inside(INBOX + user),
            lambda changes: session.say(replies.watched(changes)),
            session.node.settings.pusher.webhooks.vacated_delay,
        )
    session.node.spawn(session.watchlist.watch(kept))
