"""Where a connection stands in its life, and each of its subscriptions: what may follow what."""

from enum import Enum

from gateway.errors import Error, ErrorCode


class State(Enum):
    """Where a connection stands in its life."""

    NEW = "waiting for connect"
    CONNECTING = "connect is being decided"
    CONNECTED = "connected"
    REFUSED = "connect was answered with an error"
    CLOSED = "nothing comes in or goes out any more"
    ENDED = "left every channel"

    __hash__ = object.__hash__  # that of enums is written in Python, and states are looked up for each command


CONNECTING, CONNECTED, CLOSED = State.CONNECTING, State.CONNECTED, State.CLOSED
"""By names alone, as for each client: up to Python 3.11 a member that is asked of its class costs as much as a call."""

LIFE: dict[State, frozenset[State]] = {
    State.NEW: frozenset((State.CONNECTING, State.CONNECTED, State.CLOSED)),
    State.CONNECTING: frozenset((State.CONNECTED, State.REFUSED, State.CLOSED)),
    State.CONNECTED: frozenset((State.CLOSED,)),
    State.REFUSED: frozenset((State.CLOSED,)),
    State.CLOSED: frozenset((State.ENDED,)),
    State.ENDED: frozenset(),
}
"""What a state may lead to. Nothing leads back from CLOSED, whatever comes after an await."""

GONE = frozenset((State.CLOSED, State.ENDED))


class SubscriptionState(Enum):
    """Where a subscription stands in its life."""

    DECIDING = "it is being decided whether there is to be one"
    ADMITTED = "granted, and not begun yet"
    LOADING = "the client asks for the map, page by page"
    OPENING = "its channel is being heard, its stream read"
    READY = "open, and the client is not told yet"
    LIVE = "the client has been told, and gets what is published"
    ENDING = "nothing is delivered any more; what it had is being cleared away"
    ENDED = "nothing is left of it"

    __hash__ = object.__hash__


DECIDING, ADMITTED, LOADING, OPENING, READY, LIVE, ENDING, ENDED = SubscriptionState

SUBSCRIPTION_LIFE: dict[SubscriptionState, frozenset[SubscriptionState]] = {
    SubscriptionState.DECIDING: frozenset((SubscriptionState.ADMITTED, SubscriptionState.ENDING)),
    SubscriptionState.ADMITTED: frozenset(
        (SubscriptionState.OPENING, SubscriptionState.LOADING, SubscriptionState.ENDING)
    ),
    SubscriptionState.LOADING: frozenset((SubscriptionState.OPENING, SubscriptionState.ENDING)),
    SubscriptionState.OPENING: frozenset(
        (SubscriptionState.READY, SubscriptionState.LOADING, SubscriptionState.ENDING)
    ),
    SubscriptionState.READY: frozenset((SubscriptionState.LIVE, SubscriptionState.ENDING)),
    SubscriptionState.LIVE: frozenset((SubscriptionState.ENDING,)),
    SubscriptionState.ENDING: frozenset((SubscriptionState.ENDED,)),
    SubscriptionState.ENDED: frozenset(),
}
"""What a state may lead to."""

OVER = frozenset((SubscriptionState.ENDING, SubscriptionState.ENDED))
UNBEGUN = frozenset((SubscriptionState.DECIDING, SubscriptionState.ADMITTED))  # the channel has nothing of it
AT_WORK = frozenset((SubscriptionState.DECIDING, SubscriptionState.OPENING))
"""Somebody is at work on it, and clears it away if it is ended meanwhile."""


class SubscriptionEnded(Error):  # noqa: N818  it is no fault
    """It has been ended by somebody else while it was being made."""

    def __init__(self, code: ErrorCode = ErrorCode.PERMISSION_DENIED) -> None:
        super().__init__(code)
