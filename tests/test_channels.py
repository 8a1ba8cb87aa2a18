from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from gateway.auth.permissions import may_subscribe
from gateway.channels import NO_PUSHER, Channels
from gateway.config.settings import ChannelOptions, ChannelSettings, Namespace, PersonalChannelSettings
from gateway.config.settings.channels import META_TTL
from gateway.errors import Error, ErrorCode, SettingsError


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
    """Why a client may not name the channel."""
    with pytest.raises(Error) as caught:
        channels.resolve_for_client(name)
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
    for channel in (channels.resolve(name), channels.resolve_for_client(name)):
        assert (channel.name, channel.namespace, channel.private, channel.users) == (name, namespace, private, None)
        assert channel.options.presence == (namespace == "room")


@pytest.mark.parametrize("name", ["lobby:1", ":1", "$:1", "$lobby:1"])
def test_unknown_namespaces(channels: Channels, name: str) -> None:
    assert refusal(channels, name) == ErrorCode.UNKNOWN_CHANNEL
    with pytest.raises(Error, match="unknown channel"):
        channels.resolve(name)


LIMITED = ["n" * 256, "word:" + "ä" * 126, "grün", "word:A"]
"""What clients may not name, and the server may."""

UNSPEAKABLE = ["", "\ud800", "word:\ud800", "a\nb", "a\x00", "a\x7f", "word:a\n"]
"""What nobody may name."""


@pytest.mark.parametrize("name", LIMITED + UNSPEAKABLE)
def test_names_not_allowed_to_clients(channels: Channels, name: str) -> None:
    assert refusal(channels, name) == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize("name", LIMITED)
def test_the_server_may_name_what_clients_may_not(channels: Channels, name: str) -> None:
    channel = channels.resolve(name)
    assert (channel.name, channel.namespace) == (name, "word" if name.startswith("word:") else "")
    assert refusal(channels, name) == ErrorCode.BAD_REQUEST, "and still may not, after the server has"


@pytest.mark.parametrize("name", UNSPEAKABLE)
def test_names_that_nobody_has(channels: Channels, name: str) -> None:
    with pytest.raises(Error) as caught:
        channels.resolve(name)
    assert caught.value.code == ErrorCode.BAD_REQUEST


def test_the_longest_names_pass(channels: Channels) -> None:
    assert channels.resolve_for_client("n" * 255).name == "n" * 255
    assert channels.resolve_for_client("word:" + "ä" * 125).namespace == "word"


def test_a_regex_decides_but_lets_no_control_character_in() -> None:
    free = Channels(ChannelSettings(without_namespace=ChannelOptions(channel_regex="")))
    matched = Channels(ChannelSettings(without_namespace=ChannelOptions(channel_regex="^[$]?x")))
    assert matched.resolve_for_client("$xü").private
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


# — personal channels —

IDS = [
    *("ann", "müller", "李", "😀", "ann smith", " ann", "ann\n", "\x00", "a\u200bb", "a@b.c", "auth0|123", "$ann"),
    *("7,8", ",", "a#b", "#", "a:b", ":", "room:1", "dm:#7", "a/b", "*", "{user}", "x" * 300, "ü" * 300),
]
"""Users' ids, as they come."""

EVERYTHING: dict[str, Any] = {name: True for name in ChannelOptions.model_fields if name.startswith("allow_")}


def personal(namespace: str = "", routes: "tuple[Prefix, ...]" = (), **options: Any) -> Channels:
    """Users have channels of their own, where the options are these, and clients may name what they like."""
    found = {"channel_regex": "(?s).*", **options}
    return Channels(
        ChannelSettings(
            max_length=2000,
            without_namespace=ChannelOptions(**found),
            namespaces=(Namespace(name="dm", **found), Namespace(name="room", **found)),
        ),
        routes,
        PersonalChannelSettings(enabled=True, personal_channel_namespace=namespace),
    )


def test_names_of_personal_channels() -> None:
    assert personal().personal("ann") == personal().of_user("ann") == "#ann"
    assert personal("dm").personal("a:b,c#d é") == "dm:#a:b,c#d é"
    assert personal().of_user(7) == "#7"
    assert personal().personal("") == ""
    with pytest.raises(ValueError, match="anonymous"):
        personal().of_user("")
    off = Channels(ChannelSettings())
    assert off.personal("ann") == ""
    with pytest.raises(SettingsError, match=r"enabled = false"):
        off.of_user("ann")


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("options", [{}, {"allow_user_limited_channels": True}, EVERYTHING])
@pytest.mark.parametrize("namespace", ["", "dm"])
def test_a_personal_channel_is_closed_to_everybody_else(
    namespace: str, options: dict[str, Any], insecure: bool
) -> None:
    channels = personal(namespace, **options)
    assert len({channels.personal(user) for user in IDS}) == len(IDS)
    for user in IDS:
        name = channels.personal(user)
        channel = channels.resolve(name)
        assert (channel.namespace, channel.users) == (namespace, frozenset({user}))
        assert not channel.shuts_out(user)
        others = {*IDS, *user.split(","), *user.split("#"), *user.split(":"), "", "smith"} - {user}
        assert not [other for other in others if may_subscribe(channel, other, insecure=insecure)]
        with suppress(Error):  # as a client names it, if it may
            assert channels.resolve_for_client(name) == channel


def test_its_user_may_subscribe_by_itself_as_the_options_say() -> None:
    """Source: Centrifuge protocol, permission rules: the list of users first, then the options."""
    assert not may_subscribe(personal().resolve("#a,b"), "a,b")
    assert not may_subscribe(personal(allow_subscribe_for_anonymous=True).resolve("#a,b"), "a,b")
    assert may_subscribe(personal(allow_subscribe_for_client=True).resolve("#a,b"), "a,b")
    assert may_subscribe(personal(allow_user_limited_channels=True).resolve("#a,b"), "a,b")


def test_a_personal_channel_of_nobody() -> None:
    assert personal(**EVERYTHING).resolve("#").users == frozenset()
    assert not may_subscribe(personal(**EVERYTHING).resolve("#"), "", insecure=True)


def test_user_limited_channels_beside_personal_ones() -> None:
    """A list makes a channel of several users only where no user's own could be meant."""
    channels = personal("dm", allow_user_limited_channels=True)
    assert channels.resolve("dm:#smith,john").users == frozenset({"smith,john"})
    for name in ("dm:talk#smith,john", "#smith,john", "room:#smith,john", "$dm:#smith,john"):
        assert channels.resolve(name).users == frozenset({"smith", "john"})
    assert channels.resolve("room:1").users is None


def test_without_personal_channels_the_boundary_means_a_list_or_nothing() -> None:
    settings = ChannelSettings(namespaces=(Namespace(name="dm", allow_user_limited_channels=True),))
    channels = Channels(settings, personal=PersonalChannelSettings(personal_channel_namespace="dm"))
    assert channels.resolve("#ann").users is None
    assert channels.resolve("dm:#a,b").users == frozenset({"a", "b"})
    assert refusal(channels, "#a:b") == ErrorCode.UNKNOWN_CHANNEL


def test_the_history_of_a_personal_channel_is_for_subscribers() -> None:
    channels = personal(allow_history_for_client=True, allow_presence_for_client=True)
    ann, bob, room = (channels.resolve(name).options for name in ("#ann", "#bob", "talk#ann"))
    assert (ann.allow_history_for_client, ann.allow_history_for_subscriber) == (False, True)
    assert (ann.allow_presence_for_client, room.allow_history_for_client) == (True, True)
    assert ann is bob, "made once"


def test_a_route_opens_no_personal_channel() -> None:
    routes = (Prefix("#", **EVERYTHING), Prefix("dm:", **EVERYTHING))
    channels = personal(routes=routes)
    for user in IDS:
        channel = channels.resolve(channels.personal(user))
        assert channel.route is routes[0]
        assert channel.users == frozenset({user})
        assert not channel.options.allow_history_for_client
    assert channels.resolve("dm:a#7,9").users == frozenset({"7", "9"})


def test_the_life_of_positions_falls_back_to_the_common_one(channels: Channels) -> None:
    assert channels.resolve("room:1").options.history_meta_ttl == 60
    assert channels.resolve("news").options.history_meta_ttl == META_TTL


def test_the_same_name_is_resolved_once(channels: Channels) -> None:
    assert channels.resolve("news") is channels.resolve("news")
    assert channels.resolve_for_client("news") is channels.resolve_for_client("news")


def test_names_longer_than_clients_may_use_are_not_kept(channels: Channels) -> None:
    name = "n" * 256
    assert channels.resolve(name) is not channels.resolve(name)


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


def test_what_namespaces_ask() -> None:
    """It stands in their channels, beside routes, and holds names to what the namespace says of them."""
    asking = ChannelSettings(namespaces=(Namespace(name="word", channel_regex="^[äa-z]+$"), Namespace(name="room")))
    silent = ChannelSettings(namespaces=(Namespace(name="word"),))
    channels = Channels(asking, [Prefix("room:own")], ask=lambda options: options.channel_regex)
    assert channels.resolve_for_client("word:wärd").asks == "^[äa-z]+$"
    with pytest.raises(Error, match="107"):
        channels.resolve_for_client("word:1")
    assert channels.resolve("room:1").asks == channels.resolve("x").asks == ""
    assert channels.resolve("room:own").asks is None
    assert channels.resolve("word:a").route is None
    channels.reload(silent, NO_PUSHER)
    assert channels.resolve("word:a").asks == ""
    assert Channels(asking).resolve("word:a").asks is None
