from collections.abc import Mapping
from typing import Any

import pytest

from gateway.channels import Channels
from gateway.config.settings import ChannelOptions, ChannelSettings, Namespace
from gateway.errors import Error, ErrorCode


@pytest.fixture
def channels() -> Channels:
    return Channels(
        ChannelSettings(
            namespaces=(
                Namespace(name="room", presence=True, history_meta_ttl=60),
                Namespace(name="dm", allow_user_limited_channels=True),
                Namespace(name="word", channel_regex="^[äa-z]+$"),
            )
        )
    )


def refusal(channels: Channels, name: str) -> int:
    with pytest.raises(Error) as caught:
        channels.resolve(name)
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "namespace", "private"),
    [
        ("news", "", False),
        ("$news", "", True),
        ("room:42", "room", False),
        ("$room:42", "room", True),
        ("room:a:b", "room", False),
        ("room:{a}", "room", False),
        ("a b", "", False),
    ],
)
def test_takes_names_apart(channels: Channels, name: str, namespace: str, private: bool) -> None:
    channel = channels.resolve(name)
    assert (channel.name, channel.namespace, channel.private, channel.users) == (name, namespace, private, None)
    assert channel.options.presence == (namespace == "room")


@pytest.mark.parametrize("name", ["lobby:1", ":1", "$:1", "$lobby:1"])
def test_unknown_namespaces(channels: Channels, name: str) -> None:
    assert refusal(channels, name) == ErrorCode.UNKNOWN_CHANNEL


@pytest.mark.parametrize(
    "name",
    [
        "",
        "n" * 256,
        "word:" + "ä" * 126,
        "grün",
        "a\nb",
        "a\x00",
        "a\x7f",
        "word:A",
        "word:a\n",
        "\ud800",
        "word:\ud800",
    ],
)
def test_names_not_allowed(channels: Channels, name: str) -> None:
    assert refusal(channels, name) == ErrorCode.BAD_REQUEST


def test_the_longest_names_pass(channels: Channels) -> None:
    assert channels.resolve("n" * 255).name == "n" * 255
    assert channels.resolve("word:" + "ä" * 125).namespace == "word"


def test_a_regex_decides_but_lets_no_control_character_in() -> None:
    free = Channels(ChannelSettings(without_namespace=ChannelOptions(channel_regex="")))
    matched = Channels(ChannelSettings(without_namespace=ChannelOptions(channel_regex="^[$]?x")))
    assert matched.resolve("$xü").private
    assert refusal(matched, "y") == ErrorCode.BAD_REQUEST
    assert refusal(matched, "x\u2028") == ErrorCode.BAD_REQUEST
    assert refusal(free, "xü") == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("dm:a#7,9", {"7", "9"}),
        ("dm:a#b#7", {"7"}),
        ("$dm:#7", {"7"}),
        ("dm:a", None),
        ("dm:a#", set()),
        ("dm:a#7,", {"7"}),
        ("room:a#7", None),
    ],
)
def test_user_limited_names(channels: Channels, name: str, users: set[str] | None) -> None:
    assert channels.resolve(name).users == (None if users is None else frozenset(users))


def test_personal_channels_are_open_to_their_user_alone(channels: Channels) -> None:
    assert channels.personal("7") == "#7"
    assert channels.personal("7", "dm") == "dm:#7"
    assert channels.resolve(channels.personal("7", "dm")).users == frozenset({"7"})


def test_the_life_of_positions_falls_back_to_the_common_one(channels: Channels) -> None:
    assert channels.resolve("room:1").options.history_meta_ttl == 60
    assert channels.resolve("news").options.history_meta_ttl == 720 * 3600


def test_the_same_name_is_resolved_once(channels: Channels) -> None:
    assert channels.resolve("news") is channels.resolve("news")


# — routes of the program —


class Prefix:
    """Names that begin so."""

    def __init__(self, prefix: str, **options: Any) -> None:
        self.key = f"route:{prefix}"
        self.text = prefix
        self.options = ChannelOptions(**options)
        self.asked = 0
        self._prefix = prefix

    def match(self, name: str) -> Mapping[str, str] | None:
        self.asked += 1
        return {"rest": name.removeprefix(self._prefix)} if name.startswith(self._prefix) else None


def test_routes_come_first_and_in_their_order() -> None:
    first, second = Prefix("room:", presence=True), Prefix("ro", history_size=5)
    channels = Channels(ChannelSettings(namespaces=(Namespace(name="room"),)), [first, second])
    channel = channels.resolve("room:a:b")
    assert (channel.route, channel.params, channel.namespace) == (first, {"rest": "a:b"}, "route:room:")
    assert channel.options.presence
    assert channels.resolve("rover").route is second
    other = channels.resolve("news")
    assert (other.route, other.params, other.namespace) == (None, {}, "")


def test_routes_know_names_that_namespaces_refuse() -> None:
    channels = Channels(ChannelSettings(), [Prefix("größe:"), Prefix("$own:")])
    assert channels.resolve("größe:ü x").params == {"rest": "ü x"}
    assert not channels.resolve("$own:a").private
    for name in ("größe:\n", "größe:" + "x" * 300, "größe:\ud800"):
        assert refusal(channels, name) == ErrorCode.BAD_REQUEST
    assert refusal(channels, "other:a") == ErrorCode.UNKNOWN_CHANNEL


def test_options_of_a_route_are_completed_once() -> None:
    channels = Channels(ChannelSettings(history_meta_ttl=30), [Prefix("a:"), Prefix("b:", history_meta_ttl=60)])
    assert channels.resolve("a:1").options.history_meta_ttl == 30
    assert channels.resolve("a:1").options is channels.resolve("a:2").options
    assert channels.resolve("b:1").options.history_meta_ttl == 60


def test_a_route_may_limit_its_channels_to_users() -> None:
    channels = Channels(ChannelSettings(), [Prefix("dm:", allow_user_limited_channels=True)])
    assert channels.resolve("dm:a#7,9").users == frozenset({"7", "9"})
    assert channels.resolve("dm:a").users is None


def test_routes_are_asked_once_for_a_name() -> None:
    route = Prefix("a:")
    channels = Channels(ChannelSettings(), [route])
    assert channels.resolve("a:1") is channels.resolve("a:1")
    assert route.asked == 1


def test_a_parameter_stands_for_no_private_and_no_personal_channel() -> None:
    settings = ChannelSettings(namespaces=(Namespace(name="room"),))
    every = Prefix("")
    channels = Channels(settings, [every, Prefix("room:")])
    assert channels.resolve("anything").route is every
    assert channels.resolve("a#b").route is every
    for name in ("$secret", "#bob", "room:#bob"):
        assert channels.resolve(name).route is None
    named = Channels(settings, [Prefix("$secret"), Prefix("room:#"), Prefix("#")])
    assert all(named.resolve(name).route is not None for name in ("$secret", "#bob", "room:#bob"))
