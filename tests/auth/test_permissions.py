from collections.abc import Callable

import pytest

from gateway.auth.permissions import (
    Features,
    check_payload,
    granted_features,
    may_publish,
    may_read_history,
    may_read_presence,
    may_subscribe,
)
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Error, ErrorCode
from gateway.messages import SubscribeRequest

CLOSED = ChannelOptions()
OPEN = ChannelOptions(allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)
LISTS = ChannelOptions(allow_user_limited_channels=True)
ALL = SubscribeRequest(positioned=True, recoverable=True, join_leave=True)


def test_nobody_may_subscribe_by_default() -> None:
    assert not may_subscribe(Channel("x", CLOSED), "alice")


def test_users_may_subscribe_and_anonymous_ones_need_more() -> None:
    for_users = ChannelOptions(allow_subscribe_for_client=True)
    assert may_subscribe(Channel("x", for_users), "alice")
    assert not may_subscribe(Channel("x", for_users), "")
    assert may_subscribe(Channel("x", OPEN), "")
    assert not may_subscribe(Channel("x", ChannelOptions(allow_subscribe_for_anonymous=True)), "")


@pytest.mark.parametrize("insecure", [False, True])
def test_private_channels_need_a_token(insecure: bool) -> None:
    assert not may_subscribe(Channel("$x", OPEN, private=True), "alice", insecure=insecure)


@pytest.mark.parametrize("insecure", [False, True])
def test_user_limited_channels_are_for_those_listed(insecure: bool) -> None:
    limited = Channel("x#a,b", OPEN, users=frozenset({"a", "b"}))
    assert may_subscribe(limited, "a", insecure=insecure)
    assert not may_subscribe(limited, "c", insecure=insecure)
    assert not may_subscribe(limited, "", insecure=insecure)


@pytest.mark.parametrize(("options", "may"), [(CLOSED, False), (OPEN, True), (LISTS, True)])
def test_whom_a_name_does_not_shut_out_still_needs_to_be_let_in(options: ChannelOptions, may: bool) -> None:
    """A personal channel names its user, and says nothing of who may subscribe by itself; a list lets in."""
    assert may_subscribe(Channel("#a", options, users=frozenset({"a"})), "a") is may
    assert not may_subscribe(Channel("#a", options, users=frozenset({"a"})), "b")


def test_insecure_lets_subscribe() -> None:
    assert may_subscribe(Channel("x", CLOSED), "", insecure=True)


Decision = Callable[..., bool]


@pytest.mark.parametrize(
    ("may", "what"), [(may_publish, "publish"), (may_read_presence, "presence"), (may_read_history, "history")]
)
def test_clients_subscribers_and_anonymous_users(may: Decision, what: str) -> None:
    def options(*whom: str) -> ChannelOptions:
        return ChannelOptions.model_validate({f"allow_{what}_for_{who}": True for who in whom})

    assert not may(CLOSED, "alice", True)
    assert may(CLOSED, "", False, insecure=True)
    assert may(options("client"), "alice", False)
    assert not may(options("client"), "", True)
    assert may(options("client", "anonymous"), "", False)
    assert may(options("subscriber"), "alice", True)
    assert not may(options("subscriber"), "alice", False)
    assert not may(options("subscriber"), "", True)
    assert may(options("subscriber", "anonymous"), "", True)
    assert not may(options("subscriber", "anonymous"), "", False)
    assert not may(options("anonymous"), "", True)


HISTORY = {"history_size": 10, "history_ttl": 60}


@pytest.mark.parametrize(
    ("options", "request_", "features"),
    [
        ({}, ALL, Features()),
        ({"allow_history_for_client": True, "allow_recovery": True, "force_positioning": True}, ALL, Features()),
        (HISTORY, ALL, Features()),
        (HISTORY | {"force_positioning": True}, SubscribeRequest(), Features(positioned=True)),
        (HISTORY | {"force_recovery": True}, SubscribeRequest(), Features(positioned=True, recoverable=True)),
        (HISTORY | {"allow_positioning": True}, ALL, Features(positioned=True)),
        (HISTORY | {"allow_positioning": True}, SubscribeRequest(), Features()),
        (HISTORY | {"allow_recovery": True}, ALL, Features(positioned=True, recoverable=True)),
        (HISTORY | {"allow_recovery": True}, SubscribeRequest(positioned=True), Features()),
        (HISTORY | {"allow_history_for_subscriber": True}, ALL, Features(positioned=True, recoverable=True)),
        (
            HISTORY | {"allow_history_for_subscriber": True},
            SubscribeRequest(positioned=True),
            Features(positioned=True),
        ),
        ({"join_leave": True}, ALL, Features()),
        ({"join_leave": True, "allow_presence_for_subscriber": True}, ALL, Features(join_leave=True)),
        ({"join_leave": True, "allow_presence_for_subscriber": True}, SubscribeRequest(), Features()),
        ({"allow_presence_for_subscriber": True}, ALL, Features()),
        ({"join_leave": True, "force_push_join_leave": True}, SubscribeRequest(), Features(join_leave=True)),
    ],
)
def test_what_request_flags_switch_on(
    options: dict[str, object], request_: SubscribeRequest, features: Features
) -> None:
    assert granted_features(ChannelOptions.model_validate(options), "alice", request_) == features


def test_insecure_grants_every_flag_the_channel_can_honour() -> None:
    options = ChannelOptions(history_size=1, history_ttl=1, join_leave=True)
    assert granted_features(options, "", ALL, insecure=True) == Features(True, True, True)
    assert granted_features(options, "", SubscribeRequest(), insecure=True) == Features()


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ("", [b"1", b"\xff"], [b""]),
        ("binary", [b"", b"\xff"], []),
        ("json", [b"1", b' {"a": [1]} '], [b"", b"{", b"1 2", b'"\xff"', b"[" * 100_000]),
        ("json_object", [b"{}", b' {"a":1}'], [b"", b"1", b"[]", b"{", b"{}{}"]),
    ],
)
def test_payloads(wanted: str, good: list[bytes], bad: list[bytes]) -> None:
    options = ChannelOptions.model_validate({"publication_data_format": wanted})
    for data in good:
        check_payload(options, data, known_json=False)
    for data in bad:
        with pytest.raises(Error) as caught:
            check_payload(options, data, known_json=False)
        assert caught.value.code == ErrorCode.BAD_REQUEST


def test_data_known_to_be_json_is_not_parsed_again() -> None:
    wants_json = ChannelOptions(publication_data_format="json")
    wants_object = ChannelOptions(publication_data_format="json_object")
    check_payload(wants_json, b"{", known_json=True)
    with pytest.raises(Error):
        check_payload(wants_object, b"[]", known_json=True)
