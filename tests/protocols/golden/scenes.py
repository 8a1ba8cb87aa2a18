"""The scenes. Those of the protocol's own examples come in their order; each command and push is in one of them."""

from typing import Any

from gateway.auth.tracking import sign_keys
from gateway.config.settings import Settings
from gateway.core.poll_values import Value
from gateway.messages import Payload
from tests.fuzz.options import SMALL, WRITERS
from tests.protocols.golden.acts import (
    answers,
    api_disconnect,
    api_refresh,
    api_send,
    api_subscribe,
    api_unsubscribe,
    clear,
    lose_position,
    other,
    publish,
    put,
    remove,
    wait,
)
from tests.protocols.golden.stage import Scene, Words
from tests.session.rig import HISTORY, NOW, OPEN, SECRET, WRITABLE

READ = {f"allow_{what}_for_{who}": True for what in ("presence", "history") for who in ("subscriber", "anonymous")}
MAP = {"subscription_type": "map", **OPEN}
PERSISTENT = {"mode": "persistent", **WRITERS}
EPHEMERAL = {"mode": "ephemeral", "key_ttl": "60s", **WRITERS}
PRESENT = {f"map_{who}_presence_channel_prefix": prefix for who, prefix in (("clients", "online:"), ("users", "who:"))}

NAMESPACES: list[dict[str, Any]] = [
    {"name": "room", **OPEN, **WRITABLE, **HISTORY, **READ, "force_recovery": True},
    {"name": "short", **OPEN, "history_size": 2, "history_ttl": "60s", "force_recovery": True},
    {"name": "cell", **OPEN, "history_size": 1, "history_ttl": "60s", "force_recovery": True}
    | {"force_recovery_mode": "cache"},
    {"name": "probe", **OPEN, **HISTORY, "force_recovery": True, "allowed_delta_types": ["fossil"]}
    | {"delta_publish": True},
    {"name": "lobby", **OPEN, **READ, "presence": True, "join_leave": True},
    {"name": "ticker", **OPEN, "allow_tags_filter": True},
    {"name": "desk", **HISTORY, "force_recovery": True},
    {"name": "named", **OPEN, "channel_regex": "^[a-z]+$"},
    {"name": "board", **MAP, "map": PERSISTENT, "client_publish_debounce_interval": "300ms"},
    {"name": "page", **MAP, "map": {**PERSISTENT, **SMALL}},
    {"name": "md", **MAP, "map": PERSISTENT, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "tagged", **MAP, "map": PERSISTENT, "allow_tags_filter": True},
    {"name": "cursors", **MAP, "map": EPHEMERAL},
    {"name": "hall", **OPEN, **PRESENT},
    {"name": "online", **OPEN, "subscription_type": "map_clients", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
    {"name": "who", **OPEN, "subscription_type": "map_users", "map": {"mode": "ephemeral", "key_ttl": "60s"}},
    {"name": "poll", **OPEN, "subscription_type": "shared_poll"}
    | {"shared_poll": {"mode": "versioned", "refresh_interval": "1s"}},
]
SETTINGS = Settings(
    client={"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True},
    channel={"namespaces": NAMESPACES, "without_namespace": {**OPEN, **WRITABLE, "allow_channel_compaction": True}},
    shared_poll={"hmac_secret_key": SECRET},
)

CONNECT: Words = {"connect": {}}
ANN: Words = {"connect": {"token": "@ann", "name": "js", "version": "5.7.0"}}
TEXT = {"sensor": "t-17", "unit": "celsius", "site": "north hall", "value": 21.4}
NOTE = {"n": 1, "pad": "x" * 60}
STREAMS = ("http_stream-json", "http_stream-protobuf", "sse")
UNI = ("uni_websocket-json", "uni_websocket-protobuf", "uni_http_stream-json", "uni_http_stream-protobuf", "uni_sse")


def _sub(channel: str, **more: Any) -> Words:
    return {"subscribe": {"channel": channel, **more}}


def _unsub(channel: str) -> Words:
    return {"unsubscribe": {"channel": channel}}


def _load(channel: str, **more: Any) -> Words:
    return _sub(channel, type=1, phase=2, **more)


def _catch_up(channel: str, **more: Any) -> Words:
    return _sub(channel, type=1, phase=1, epoch="@", **more)


def _track(channel: str, *batches: dict[str, int], untrack: tuple[str, ...] = ()) -> Words:
    track = [
        {
            "signature": sign_keys(SECRET, int(NOW), int(NOW) + 3600, "ann", channel, [*batch]),
            "items": [{"key": key, **({"version": version} if version else {})} for key, version in batch.items()],
        }
        for batch in batches
    ]
    return {
        "sub_refresh": {"channel": channel, "type": 1, "track": track, **({"untrack": [*untrack]} if untrack else {})}
    }


def _value(key: str, version: int, *, removed: bool = False) -> Value:
    return Value(key, None if removed else Payload(b'{"v":%d}' % version), version, removed)


SCENES = (
    Scene(
        "connect",
        "A token that ends, everything that a client may say of itself; then ping and pong, and none",
        [
            {"connect": {"token": "@ann30", "name": "js", "version": "5.7.0", "data": {"a": 1}, "headers": {"h": "v"}}},
            wait(25),
            [{}],
            wait(25),
            [{}],
            wait(8),
        ],
    ),
    Scene("no_pong", "A ping without its pong", [CONNECT, wait(60)]),
    Scene("batch", "Connect and two subscribes in one frame", [[CONNECT, _sub("news"), _sub("nope:1")]]),
    Scene("expired", "An expired token is answered by an error; whoever goes on is closed", [
        {"connect": {"token": "@old"}}, _sub("news")]),
    Scene("refused", "A client that stays after its connect was refused", [{"connect": {"token": "@past"}}, wait(5.2)]),
    Scene("invalid", "An invalid token closes", [{"connect": {"token": "garbage"}}]),
    Scene("recovery", "A stream: publish, come back, be told what was missed; or that it is too late", [
        ANN,
        _sub("room:42", recoverable=True),
        {"publish": {"channel": "room:42", "data": {"text": "hi"}}},
        _unsub("room:42"),
        publish("room:42", {"n": 1}, {"n": 2}),
        _sub("room:42", recover=True, epoch="@", offset=1, recoverable=True),
        _unsub("room:42"),
        _sub("room:42", recover=True, epoch="@", offset=3),
        publish("short:1", 1, 2, 3),
        _sub("short:1", recover=True, epoch="@", offset=0),
        _unsub("short:1"),
        _sub("short:1", recover=True, epoch="@", offset=0, flag=2),
        _sub("short:1", recover=True, epoch="other", offset=2),
    ]),
    Scene("cache", "Only the newest publication is kept, and recovered", [
        CONNECT, publish("cell:1", 1, 2), _sub("cell:1", recover=True), publish("cell:1", 3)]),
    Scene("presence", "Join, presence, leave", [
        ANN,
        _sub("lobby:1", join_leave=True),
        {"presence": {"channel": "lobby:1"}},
        other("subscribe", channel="lobby:1"),
        {"presence_stats": {"channel": "lobby:1"}},
        other("unsubscribe", channel="lobby:1"),
        {"presence": {"channel": "room:42"}},
    ]),
    Scene("history", "Position alone, pages in both directions, a foreign epoch", [
        ANN,
        _sub("room:42"),
        {"history": {"channel": "room:42"}},
        {"publish": {"channel": "room:42", "data": {"text": "hi"}}},
        publish("room:42", {"n": 1}, {"n": 2}, kind="count"),
        {"history": {"channel": "room:42", "limit": 2, "since": {"offset": 1, "epoch": "@"}}},
        {"history": {"channel": "room:42", "limit": 2, "reverse": True}},
        {"history": {"channel": "room:42", "limit": -1}},
        {"history": {"channel": "room:42", "limit": 2, "since": {"offset": 1, "epoch": "other"}}},
        {"history": {"channel": "news", "limit": 1}},
    ]),
    Scene("delta", "Patches in place of publications, live and recovered", [
        CONNECT,
        _sub("probe:1", delta="fossil"),
        publish("probe:1", TEXT, {**TEXT, "value": 21.9}),
        _unsub("probe:1"),
        publish("probe:1", {**TEXT, "value": 22.0}, {**TEXT, "value": 22.1}),
        _sub("probe:1", delta="fossil", recover=True, epoch="@", offset=2),
    ]),
    Scene("refresh", "New tokens for connection and subscription", [
        {"connect": {"token": "@ann30"}},
        {"refresh": {"token": "@annhour"}},
        _sub("desk:7", token="@desk30"),
        {"sub_refresh": {"channel": "desk:7", "token": "@deskhour"}},
        {"sub_refresh": {"token": "@deskhour"}},
        {"sub_refresh": {"channel": "desk:7", "token": "@deskold"}},
    ]),
    Scene("server_side", "Subscriptions of the server: with connect, by the API, taken away; a message; another end", [
        publish("desk:7", 1),
        {"connect": {"token": "@anndesk", "subs": {"desk:7": {"recover": True, "epoch": "@", "offset": 0}}}},
        publish("desk:7", 2),
        api_subscribe("desk:8", {"why": "admin"}),
        api_unsubscribe("desk:8"),
        api_send({"to": "ann"}),
        api_refresh(3600),
        api_disconnect(3503, "force disconnect"),
    ]),
    Scene("lost", "A position that is lost: the client subscribes again by itself", [
        CONNECT, _sub("room:42"), publish("room:42", 1), lose_position("room:42"),
        _sub("room:42", recover=True, epoch="@", offset=1)]),
    Scene("filter", "Publications by their tags", [
        CONNECT,
        _sub("news", tf={"key": "sym", "cmp": "ex"}),
        _sub("ticker:1", tf={"op": "and", "nodes": [
            {"key": "sym", "cmp": "in", "vals": ["AAA", "BBB"]}, {"key": "px", "cmp": "gte", "val": "10.5"}]}),
        publish("ticker:1", 1, sym="AAA", px="10.6"),
        publish("ticker:1", 2, sym="CCC", px="10.6"),
        _sub("ticker:2", tf={"op": "xor"}),
    ]),
    Scene("rpc", "Calls that a program answers", [
        CONNECT,
        {"rpc": {"method": "echo", "data": {"a": 1}}},
        {"rpc": {"method": "refuse"}},
        {"rpc": {"method": "nothing"}},
        {"rpc": {"method": "leave"}},
    ], program=True),
    Scene("send", "A call and a message with nobody to take them", [
        CONNECT, {"rpc": {"method": "echo"}}, {"send": {"data": 1}}]),
    Scene("ping", "The obsolete command", [CONNECT, {"ping": {}}]),
    Scene("garbage", "What is no command", [CONNECT, b"garbage"]),
    Scene("early", "A command before connect", [_sub("news")]),
    Scene("stale", "A client that says nothing", [wait(10.2)]),
    Scene("binary", "A payload that is no JSON", [CONNECT, _sub("news"), publish("news", b"\xff\x00")]),
    Scene("errors", "Errors of commands for channels", [
        ANN,
        _sub("named:1"),
        _sub("desk:1"),
        _sub("desk:1", token="garbage"),
        _sub("desk:7", token="@deskold"),
        _sub("x" * 256),
        [_sub("news"), _sub("news")],
        {"publish": {"channel": "room:1"}},
        {"publish": {"channel": "desk:1", "data": 1}},
        _unsub("never"),
        {"refresh": {"token": "garbage"}},
    ]),
    Scene("number", "A number in place of the channel", [
        ANN, _sub("lobby:42", flag=1, join_leave=True), publish("lobby:42", {"text": "hi"}),
        other("subscribe", channel="lobby:42"), api_unsubscribe("lobby:42")]),
    Scene("get_state", "A position that is lost, told by an error", [
        CONNECT, publish("room:1", 1), _sub("room:1", flag=3, recover=True, offset=17, epoch="@"),
        _sub("room:1", flag=3, recover=True, offset=1, epoch="@")]),
    Scene("map", "A small map in one round trip, a change, a removal; the first change carries the epoch", [
        CONNECT, put("board:1", "a", {"v": 1}), put("board:1", "b", {"v": 2}, t="x"), _load("board:1", flag=1),
        put("board:1", "a", {"v": 9}), remove("board:1", "b"), _load("board:2"), put("board:2", "a", 1)]),
    Scene("map_ephemeral", "A map without positions; a client sets and removes a key", [
        ANN, _load("cursors:1"),
        {"publish": {"channel": "cursors:1", "type": 1, "key": "me", "data": {"x": 4}}},
        {"publish": {"channel": "cursors:1", "type": 1, "key": "me", "removed": True}}]),
    Scene("map_pages", "Pages, with changes after the first", [
        CONNECT, *[put("page:1", f"k{n}", n) for n in range(1, 6)],
        _load("page:1", limit=2), put("page:1", "k1", 100), put("page:1", "k4", 400),
        _load("page:1", limit=2, cursor="k2", offset=5, epoch="@"),
        _load("page:1", limit=2, cursor="k4", offset=5, epoch="@")]),
    Scene("map_behind", "Far behind after the last page", [
        CONNECT, put("page:1", "n1", 1), put("page:1", "n2", 1), put("page:1", "n3", 1),
        _load("page:1", limit=2), *[put("page:1", "n1", n) for n in range(4)],
        _load("page:1", limit=2, cursor="n2", offset=3, epoch="@"),
        _catch_up("page:1", limit=2, offset=3), _catch_up("page:1", limit=2, offset=5)]),
    Scene("map_recovery", "Recovery; cleared while live, the map is loaded anew", [
        CONNECT, put("board:1", "a", 1), _load("board:1", flag=1), _unsub("board:1"), put("board:1", "c", {"v": 5}),
        _catch_up("board:1", flag=1, offset=1, recover=True), clear("board:1"),
        _sub("board:1", type=1, phase=1, flag=1, offset=2, epoch="former", recover=True), _load("board:1", flag=1)]),
    Scene("map_errors", "Errors of maps", [
        CONNECT, put("page:1", "a", 1), put("page:1", "b", 1), put("page:1", "c", 1),
        _load("board:3", cursor="x"), _sub("board:3", type=1, phase=1),
        _sub("cursors:3", type=1, phase=1, recover=True, offset=1, epoch="x"),
        _load("page:1", limit=2), _load("page:1", limit=2), _sub("board:3"), _sub("board:3", type=4), _sub("poll:1"),
        {"publish": {"channel": "board:1", "type": 1, "data": {}}},
        wait(5.2), _load("page:1", limit=2, cursor="b", offset=3, epoch="@")]),
    Scene("map_delta", "Patches for each key; a removal; then what was missed", [
        CONNECT, put("md:1", "s", NOTE), _load("md:1", delta="fossil"),
        put("md:1", "s", {**NOTE, "n": 2}), put("md:1", "new", {"n": 7}), remove("md:1", "s"), _unsub("md:1"),
        put("md:1", "s", {**NOTE, "n": 4}), put("md:1", "s", {**NOTE, "n": 5}), remove("md:1", "new"),
        _catch_up("md:1", delta="fossil", offset=4, recover=True)]),
    Scene("map_filter", "Entries and changes by their tags", [
        CONNECT, put("tagged:1", "a", 1, t="x"), put("tagged:1", "b", 2, t="y"),
        _load("tagged:1", tf={"key": "t", "cmp": "eq", "val": "x"}),
        put("tagged:1", "a", 3, t="x"), put("tagged:1", "b", 4, t="y"), remove("tagged:1", "a")]),
    Scene("map_presence", "Who is there, as the entries of a map", [
        ANN, _sub("online:hall:7", type=2, phase=2), _sub("who:hall:7", type=3, phase=2),
        other("subscribe", channel="hall:7"), other("unsubscribe", channel="hall:7")]),
    Scene("poll", "Keys of a backend, tracked and untracked", [
        ANN, _sub("poll:a", type=4), answers(_value("k1", 1)), _track("poll:a", {"k1": 0, "k2": 7}),
        answers(_value("k1", 1), _value("k2", 8, removed=True)), wait(1.1),
        {"sub_refresh": {"channel": "poll:a", "type": 2, "untrack": ["k1"]}},
        {"sub_refresh": {"channel": "poll:a", "type": 1, "track": [{"signature": "1:2:3", "items": [{"key": "k"}]}]}},
        _track("poll:a", {"a": 4, "b": 0}, {"c": 2}, untrack=("b",)),
    ]),
    Scene("emulated", "A stream with commands by requests of their own", [
        ANN, _sub("news"), publish("news", {"text": "a\nb"}), wait(25), [{}],
        api_disconnect(3503, "force disconnect")], STREAMS),
    Scene("uni", "A client that only listens", [
        {"connect": {"token": "@anndesk"}}, publish("desk:7", {"hello": True}), api_subscribe("news"),
        publish("news", 1), api_unsubscribe("news"), api_send({"to": "ann"}), api_refresh(3600), wait(25),
        api_disconnect(3001, "shutdown")], UNI),
    Scene("uni_refused", "One whose token has ended", [{"connect": {"token": "@old"}}], UNI),
)  # fmt: skip
