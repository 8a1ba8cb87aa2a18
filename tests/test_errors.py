"""The two catalogues, against the tables of the protocol."""

import pytest

from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode, another


def test_errors_have_the_codes_of_the_protocol() -> None:
    assert [(int(each), each.message, each.temporary) for each in ErrorCode] == [
        (100, "internal server error", True),
        (101, "unauthorized", False),
        (102, "unknown channel", False),
        (103, "permission denied", False),
        (104, "method not found", False),
        (105, "already subscribed", False),
        (106, "limit exceeded", False),
        (107, "bad request", False),
        (108, "not available", False),
        (109, "token expired", False),
        (110, "expired", False),
        (111, "too many requests", True),
        (112, "unrecoverable position", False),
        (113, "concurrent pagination", True),
    ]


def test_disconnects_have_the_codes_of_the_protocol() -> None:
    assert {int(each): each.reason for each in DisconnectCode} == {
        3000: "connection closed",
        3001: "shutdown",
        3004: "internal server error",
        3005: "connection expired",
        3006: "subscription expired",
        3008: "slow",
        3009: "write error",
        3010: "insufficient state",
        3011: "force reconnect",
        3012: "no pong",
        3013: "too many requests",
        3014: "state invalidated",
        3500: "invalid token",
        3501: "bad request",
        3502: "stale",
        3503: "force disconnect",
        3504: "connection limit",
        3505: "channel limit",
        3506: "inappropriate protocol",
        3507: "permission denied",
        3508: "not available",
        3509: "too many errors",
        3510: "blocked",  # our own
    }
    assert {int(each): each.reason for each in UnsubscribeCode} == {
        2000: "server unsubscribe",
        2500: "insufficient state",
        2501: "subscription expired",
        2502: "state invalidated",
    }


def test_an_error_takes_its_words_from_the_catalogue() -> None:
    error = Error(ErrorCode.TOO_MANY_REQUESTS)
    assert (error.code, error.message, error.temporary) == (111, "too many requests", True)
    assert str(error) == "111 too many requests"
    assert not Error(ErrorCode.TOO_MANY_REQUESTS, temporary=False).temporary
    assert Error(ErrorCode.BAD_REQUEST, "bad request: why").message == "bad request: why"


def test_an_application_has_errors_of_its_own() -> None:
    error = Error(403, "not a member", temporary=True)
    assert (error.code, error.message, error.temporary) == (403, "not a member", True)
    nameless = Error(403)
    assert (nameless.message, nameless.temporary) == ("error", False)


@pytest.mark.parametrize(
    ("codes", "reconnect"),
    [((1000, 3000, 3499, 4000, 4499, 5000), True), ((3500, 3999, 4500, 4999), False)],
)
def test_the_code_says_whether_to_return(codes: tuple[int, ...], reconnect: bool) -> None:
    assert [Disconnect(code).reconnect for code in codes] == [reconnect] * len(codes)


def test_a_disconnect_takes_its_words_from_the_catalogue() -> None:
    slow = Disconnect(DisconnectCode.SLOW)
    assert (slow.code, slow.reason, str(slow)) == (3008, "slow", "3008 slow")
    assert Disconnect(4001).reason == "disconnected"
    assert Disconnect(4001, "lunch").reason == "lunch"


def test_a_broker_that_is_away_is_a_temporary_error() -> None:
    error = BrokerUnavailable()
    assert (error.code, error.temporary) == (100, True)


@pytest.mark.parametrize(
    "error", [BrokerUnavailable(), Error(403, "no"), Disconnect(4001, "bye"), ValueError("x", 1), OSError(2, "gone")]
)
def test_another_is_alike_and_has_nothing_of_the_first(error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        other = another(raised)
    assert other is not error
    assert (type(other), other.args, str(other), vars(other)) == (type(error), error.args, str(error), vars(error))
    assert other.__traceback__ is None
