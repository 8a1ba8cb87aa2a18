import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kinds import INBOX, INBOXES, LONGEST_NAME, PUBLIC, Kind, Names, is_name, is_user, kind_of

ALPHABET = "abcXYZ019_-=@,.;"
NAMES = st.text(ALPHABET, min_size=1, max_size=40)
NAMESPACES = st.sampled_from(["", "shop", "tenants:42", "a-b.c"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("news", PUBLIC),
        ("cache-rate", Kind("public", cached=True)),
        ("private-orders.7", Kind("private", signed=True)),
        ("private-cache-rate", Kind("private", signed=True, cached=True)),
        ("presence-desk", Kind("presence", signed=True, presence=True)),
        ("presence-cache-desk", Kind("presence", signed=True, presence=True, cached=True)),
        ("private-encrypted-x", Kind("encrypted", signed=True)),
        ("private-encrypted-cache-x", Kind("encrypted", signed=True, cached=True)),
        (f"{INBOX}17", INBOXES),
        ("#17", INBOXES),
    ],
)
def test_kinds(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    "name", ["privateer", "presence", "cached", "my-cache-x", "x-private-y", "Private-x", "presence_x", "cache", ""]
)
def test_only_what_a_name_begins_with_counts_with_its_dash(name: str) -> None:
    assert kind_of(name) == PUBLIC


@pytest.mark.parametrize("name", ["private-my-cache-x", "private-x-encrypted-y", "private-presence-x"])
def test_what_stands_further_back_does_not_count(name: str) -> None:
    assert kind_of(name) == Kind("private", signed=True)


def test_client_events_are_for_channels_that_are_signed() -> None:
    for name in ("private-x", "presence-x", "private-cache-x", "private-encrypted-x"):
        assert kind_of(name).client_events
    for name in ("news", "cache-x", "#17"):
        assert not kind_of(name).client_events


def test_names() -> None:
    assert is_name("aZ09_-=@,.;")
    assert is_name("x" * LONGEST_NAME)
    assert not is_name("x" * (LONGEST_NAME + 1))
    assert not is_name("x" * 17, longest=16)
    for name in ("", "#17", "a b", "a:b", "a/b", "ä", "a\n", "$a", "\ud800"):
        assert not is_name(name)


def test_names_of_inboxes() -> None:
    assert is_name(f"{INBOX}17")
    assert is_name(INBOX + "u" * LONGEST_NAME)  # the user's, whom the limit of names does not know
    for user in ("", "a#b", "a:b", "u" * (LONGEST_NAME + 1)):
        assert not is_name(INBOX + user)
        assert not is_user(user)


@pytest.mark.parametrize(
    ("namespace", "name", "channel"),
    [
        ("shop", "private-orders.7", "shop:private-orders.7"),
        ("tenants:42", "news", "tenants:42:news"),
        ("", "presence-desk", "presence-desk"),
        ("shop", "#server-to-user-17", "shop:#17"),
        ("", "#server-to-user-17", "#17"),
    ],
)
def test_where_channels_stand(namespace: str, name: str, channel: str) -> None:
    names = Names(namespace)
    assert names.inside(name) == channel
    assert names.outside(channel) == name
    assert channel.startswith(names.prefix)


def test_another_boundary() -> None:
    assert Names("shop", "/").inside("news") == "shop/news"


@given(NAMESPACES, NAMES, st.booleans())
def test_names_come_back_as_they_went_in_and_keep_their_kind(namespace: str, text: str, inbox: bool) -> None:
    name, names = INBOX + text if inbox else text, Names(namespace)
    channel = names.inside(name)
    assert names.outside(channel) == name
    assert channel.startswith(names.prefix)
    assert kind_of(channel.removeprefix(names.prefix)) == kind_of(name)


@given(NAMES, NAMES)
def test_no_two_names_are_one_channel(one: str, other: str) -> None:
    names = Names("shop")
    assert (names.inside(one) == names.inside(other)) == (one == other)
    assert names.inside(one) != names.inside(INBOX + other)


def test_names_are_not_kept() -> None:
    """Clients make them up, as long as a message may be."""
    name = "private-" + "x" * 60_000
    before = sys.getrefcount(name)
    assert kind_of(name) == Kind("private", signed=True)
    assert sys.getrefcount(name) == before
