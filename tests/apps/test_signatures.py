import pytest

from gateway.apps.base import App
from gateway.apps.signatures import (
    SKEW,
    sign,
    sign_body,
    sign_request,
    verify_channel,
    verify_request,
    verify_user,
)
from gateway.config.settings.pusher import PusherApp, PusherKey
from gateway.kinds import Names

KEY, SECRET, SOCKET = "k3y0example", "s3cr3t-example", "48213.907714"
NOW = 1760000000.0
BODY = b'{"name":"order.paid","channels":["private-orders.7"],"data":"{\\"id\\":7}"}'
NO_BODY = "d41d8cd98f00b204e9800998ecf8427e"

OF_CHANNEL = "aee872ce30bca556088862c6e279900da377e5e079c9acf10e4c39b6bc89b175"
OF_MEMBER = "c3c40112bff277489d1b394f2ee5c42500164c3372943ac3fb94af4d489f87e0"
OF_USER = "ab7dae2c31e340045b4e3faddd2f242b336b4f83b57f098856ce2184902057a7"
OF_POST = "6dd7388571ea60f3d76a74865a2fe2e2fe3cd441532257cc065fa7e68f37f983"
OF_GET = "4254a0a04e8aad45e6ee9f276508f692ba719328669122b38ffc6ca3d207b655"
OF_WEBHOOK = "b463fb7cbce83dc70149631d8ecee5ef380bdc5253c8e78c9f103520d318b5f4"
"""The vectors of the protocol's description."""

MEMBER = '{"user_id":"17","user_info":{"name":"Noor"}}'
USER = '{"id":"17","watchlist":["23"]}'
POST = [
    ("auth_key", KEY),
    ("auth_timestamp", "1760000000"),
    ("auth_version", "1.0"),
    ("body_md5", "1a55f56f8fa821ec2d124ab963b68e75"),
    ("auth_signature", OF_POST),
]
EVENTS = "/apps/9001/events"


@pytest.fixture
def app() -> App:
    former = PusherKey(key="0ld", secret="f0rmer")
    return App(PusherApp(id="9001", key=KEY, secret=SECRET, former_keys=(former,)), Names("shop"))


def with_(**other: str) -> list[tuple[str, str]]:
    """The query of the request, with other values."""
    return list((dict(POST) | other).items())


def test_vectors_of_channels_and_users(app: App) -> None:
    assert sign(SECRET, SOCKET, "private-orders.7") == OF_CHANNEL
    assert verify_channel(app, f"{KEY}:{OF_CHANNEL}", SOCKET, "private-orders.7") is None
    assert verify_channel(app, f"{KEY}:{OF_MEMBER}", SOCKET, "presence-desk", MEMBER) is None
    assert verify_user(app, f"{KEY}:{OF_USER}", SOCKET, USER) is None


def test_the_data_is_signed_where_it_is_sent_on_every_kind_of_channel(app: App) -> None:
    auth = f"{KEY}:{sign(SECRET, SOCKET, 'private-orders.7', MEMBER)}"
    assert verify_channel(app, auth, SOCKET, "private-orders.7", MEMBER) is None
    assert verify_channel(app, auth, SOCKET, "private-orders.7")
    assert verify_channel(app, f"{KEY}:{OF_CHANNEL}", SOCKET, "private-orders.7", MEMBER)


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        ("", "KEY:SIGNATURE"),
        (KEY, "KEY:SIGNATURE"),
        (f"other:{OF_CHANNEL}", "none of the app's keys"),
        (f"{KEY.upper()}:{OF_CHANNEL}", "none of the app's keys"),
        (f"ключ:{OF_CHANNEL}", "none of the app's keys"),
        (f":{OF_CHANNEL}", "none of the app's keys"),
        (f"{KEY}:", "mismatch"),
        (f"{KEY}:{OF_CHANNEL.upper()}", "mismatch"),
        (f"{KEY}:{OF_CHANNEL}:", "mismatch"),
        (f"{KEY}:{OF_CHANNEL[:-1]}", "mismatch"),
        (f"{KEY}:{OF_CHANNEL[:-1]}é", "mismatch"),
        (f"{KEY}:\ud800", "mismatch"),
    ],
)
def test_what_signs_nothing(app: App, auth: str, why: str) -> None:
    said = verify_channel(app, auth, SOCKET, "private-orders.7")
    assert said
    assert why in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("socket", "channel"), [("48213.907715", "private-orders.7"), (SOCKET, "private-orders.8"), (SOCKET, "\ud800")]
)
def test_a_signature_is_of_one_socket_and_one_channel(app: App, socket: str, channel: str) -> None:
    assert verify_channel(app, f"{KEY}:{OF_CHANNEL}", socket, channel)


def test_former_keys_sign_by_their_own_secrets(app: App) -> None:
    assert verify_channel(app, f"0ld:{sign('f0rmer', SOCKET, 'private-x')}", SOCKET, "private-x") is None
    assert verify_channel(app, f"0ld:{sign(SECRET, SOCKET, 'private-x')}", SOCKET, "private-x")
    assert verify_channel(app, f"{KEY}:{sign('f0rmer', SOCKET, 'private-x')}", SOCKET, "private-x")


def test_who_may_join_is_not_signed_in(app: App) -> None:
    assert verify_user(app, f"{KEY}:{sign(SECRET, SOCKET, USER)}", SOCKET, USER)
    assert verify_user(app, f"{KEY}:{OF_USER}", SOCKET, USER.replace("17", "18"))


def test_vectors_of_requests(app: App) -> None:
    assert verify_request(app, "POST", EVENTS, POST, BODY, NOW) is None
    assert verify_request(app, "post", EVENTS, POST[::-1], BODY, NOW) is None
    assert sign_request(app, "POST", EVENTS, [], BODY, NOW + 0.9) == POST
    query = [("info", "user_count"), ("filter_by_prefix", "presence-"), *with_(body_md5=NO_BODY, auth_signature=OF_GET)]
    assert verify_request(app, "GET", "/apps/9001/channels", query, b"", NOW) is None
    assert verify_request(app, "GET", "/apps/9001/channels", query[1:], b"", NOW)


@pytest.mark.parametrize("body_md5", [NO_BODY, None])
def test_values_are_signed_as_they_are_and_names_in_lower_case(app: App, body_md5: str | None) -> None:
    """As PyPI's library has it, and others, who say nothing of a body that is not there."""
    query = [("filter_by_prefix", "a=@,.;b"), ("Info", "user_count,subscription_count"), *POST[:3]]
    text = f"auth_key={KEY}&auth_timestamp=1760000000&auth_version=1.0"
    if body_md5:
        query.append(("body_md5", body_md5))
        text += f"&body_md5={body_md5}"
    text = f"GET\n/x\n{text}&filter_by_prefix=a=@,.;b&info=user_count,subscription_count"
    assert verify_request(app, "GET", "/x", [*query, ("auth_signature", sign(SECRET, text))], b"", NOW) is None


@pytest.mark.parametrize(
    ("query", "body", "now", "why"),
    [
        ([], BODY, NOW, "auth_key"),
        (with_(auth_key="other", auth_version="2"), BODY, NOW, "auth_key"),
        (with_(auth_version="2", auth_timestamp="0"), BODY, NOW, "auth_version"),
        (POST[:2], BODY, NOW, "auth_version"),
        (with_(auth_timestamp="0", body_md5="x"), BODY, NOW, "seconds off"),
        (with_(auth_timestamp=""), BODY, NOW, "auth_timestamp must"),
        (with_(auth_timestamp="１７６"), BODY, NOW, "auth_timestamp must"),
        (with_(auth_timestamp="-1760000000"), BODY, NOW, "auth_timestamp must"),
        (with_(auth_timestamp="9" * 5000), BODY, NOW, "auth_timestamp must"),
        (POST, BODY, NOW + SKEW + 1, "seconds off"),
        (POST, BODY, NOW - SKEW - 1, "seconds off"),
        (POST, BODY + b" ", NOW, "body_md5 is not"),
        (with_(body_md5="é"), BODY, NOW, "body_md5 is not"),
        (POST[:3], BODY, NOW, "body_md5 is missing"),
        (POST[:4], BODY, NOW, "does not match"),
        (with_(auth_signature="é"), BODY, NOW, "does not match"),
        (with_(auth_signature="0" * 64), BODY, NOW, "does not match"),
        ([*POST, ("info", "user_count")], BODY, NOW, "does not match"),
    ],
)
def test_requests_are_refused_for_the_first_thing_that_is_wrong(
    app: App, query: list[tuple[str, str]], body: bytes, now: float, why: str
) -> None:
    said = verify_request(app, "POST", EVENTS, query, body, now)
    assert said
    assert why in said
    assert SECRET not in said


@pytest.mark.parametrize("now", [NOW + SKEW, NOW - SKEW])
def test_clocks_may_differ(app: App, now: float) -> None:
    assert verify_request(app, "POST", EVENTS, POST, BODY, now) is None


def test_another_path_or_method_is_not_what_was_signed(app: App) -> None:
    assert verify_request(app, "POST", "/apps/9001/batch_events", POST, BODY, NOW)
    assert verify_request(app, "PUT", EVENTS, POST, BODY, NOW)


@pytest.mark.parametrize("signed", ["/apps/9001/channels/a=@,.;b", "/apps/9001/channels/a%3D%40%2C.%3Bb"])
@pytest.mark.parametrize("root", ["", "/realtime"])
def test_the_path_is_signed_decoded_or_as_it_was_sent_and_without_where_the_gateway_is_mounted(
    app: App, signed: str, root: str
) -> None:
    query = sign_request(app, "GET", signed, [], b"", NOW)
    decoded, raw = root + "/apps/9001/channels/a=@,.;b", root + "/apps/9001/channels/a%3D%40%2C.%3Bb"
    assert verify_request(app, "GET", decoded, query, b"", NOW, raw_path=raw, root_path=root) is None


def test_former_keys_sign_requests(app: App) -> None:
    old = App(PusherApp(id="9001", key="0ld", secret="f0rmer"), Names("shop"))
    assert verify_request(app, "GET", "/x", sign_request(old, "GET", "/x", [], b"", NOW), b"", NOW) is None


def test_vector_of_webhooks() -> None:
    body = b'{"time_ms":1760000000123,"events":[{"name":"channel_occupied","channel":"private-orders.7"}]}'
    assert sign_body(SECRET, body) == OF_WEBHOOK
