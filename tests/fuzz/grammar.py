"""Scenes that are made up: commands that are valid, nearly valid and garbage, in any encoding."""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from gateway.protocols.centrifuge_fields import COMMAND, CONNECT_REQUEST
from gateway.protocols.centrifuge_json import Envelope
from gateway.protocols.protobuf import delimited
from tests.fuzz.ground import PROGRAM, PROTOCOLS
from tests.fuzz.options import CHANNELS, MAPS, TOKENS
from tests.fuzz.scenes import STEP, VERBS

Body = dict[str, Any]

_envelope = msgspec.json.Decoder(Envelope).decode


def encode(kind: int, *commands: Body) -> bytes:
    """Commands as one frame of a wire; for those who only listen, the body of the connect command."""
    protocol = PROTOCOLS[kind % len(PROTOCOLS)][0]
    lines = [json.dumps(each).encode() for each in commands]
    if protocol.unidirectional:
        request = commands[0].get("connect", {})
        if not protocol.binary:
            return json.dumps(request).encode()
        return CONNECT_REQUEST.write(_envelope(json.dumps({"connect": request}).encode()).connect)
    if not protocol.binary:
        return b"\n".join(lines)
    return b"".join(delimited(COMMAND.write(_envelope(line))) if line != b"{}" else b"\x00" for line in lines)


def scene(kind: int, *steps: bytes | Body | list[Body]) -> bytes:
    """A scene of a wire: each step a frame of commands, or bytes as they are."""
    made = [
        step if isinstance(step, bytes) else b">" + encode(kind, *(step if isinstance(step, list) else [step]))
        for step in steps
    ]
    return bytes([kind]) + STEP.join(made)


# — what may stand in a field —

_numbers = st.sampled_from([0, 1, 2, 3, 5, 10, 100, 2**31 - 1]) | st.integers(-2, 2**31 - 1)
_offsets = st.integers(0, 8) | st.sampled_from([2**53, 2**53 - 1])
_texts = st.sampled_from(["", "a", "b", "x1", "é", "\u0000", "a" * 300]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
FOCUS = "@a", "@b"
"""Stand for the channels that a scene is mostly about: else hardly anything would meet anything."""
_channels = st.sampled_from([*FOCUS * 20, *CHANNELS, "", "é"])
_tokens = st.sampled_from([*TOKENS, "", "garbage", "a.b.c"])
_epochs = st.sampled_from(["@", "@", "", "other"])
_keys = st.sampled_from(["a", "b", "c", "d", "x1", ""]) | _texts
_data = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
_leaf = st.fixed_dictionaries(
    {"key": st.sampled_from(["t", "n", ""])},
    optional={
        "cmp": st.sampled_from(["eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "gte", "huh"]),
        "val": st.sampled_from(["a", "b", "1", "2.5", ""]),
        "vals": st.lists(st.sampled_from(["a", "b", "1"]), max_size=3),
    },
)
_filters = st.recursive(
    _leaf,
    lambda inner: st.fixed_dictionaries(
        {"op": st.sampled_from(["and", "or", "not", "", "xor"])}, optional={"nodes": st.lists(inner, max_size=3)}
    ),
    max_leaves=4,
)
_positions = st.fixed_dictionaries({}, optional={"offset": _offsets, "epoch": _epochs})
_subscribe: dict[str, st.SearchStrategy[Any]] = {
    "token": _tokens,
    "recover": st.booleans(),
    "epoch": _epochs,
    "offset": _offsets,
    "data": _data,
    "positioned": st.booleans(),
    "recoverable": st.booleans(),
    "join_leave": st.booleans(),
    "delta": st.sampled_from(["fossil", "", "other"]),
    "tf": _filters,
    "flag": st.integers(0, 4),
    "type": st.integers(0, 5),
    "phase": st.integers(0, 3),
    "cursor": _keys,
    "limit": _numbers,
    "asc": st.booleans(),
}


def _with(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Body]:
    return st.fixed_dictionaries(
        required, optional={name: optional[name] for name in optional.keys() - required.keys()}
    )


_named = {"channel": _channels}
_stream = ("recover", "epoch", "offset", "positioned", "recoverable", "join_leave", "flag")
_good: dict[str, st.SearchStrategy[Any]] = {name: _subscribe[name] for name in _stream} | {
    "delta": st.just("fossil"),
    "tf": st.just({"key": "t", "cmp": "eq", "val": "a"}),
    "epoch": st.just("@"),
}
_subscribes = (
    _with({"channel": st.sampled_from(FOCUS)}, **_good)
    | _with(
        {"channel": st.sampled_from(MAPS), "type": st.just(1), "phase": st.sampled_from([2, 2, 1])},
        **_good,
        cursor=st.sampled_from("abc"),
        limit=_numbers,
    )
    | st.sampled_from(
        [
            {"channel": "clients:hall:1", "type": 2, "phase": 2},
            {"channel": "users:hall:1", "type": 3, "phase": 2},
            {"channel": "hall:1"},
            {"channel": "poll:1", "type": 4},
            {"channel": "pollless:1", "type": 4},
            {"channel": "closed:1", "token": "@closed30"},
            {"channel": "room:1", "token": "@room"},
        ]
    )
    | _with(_named, **_subscribe)
)
_items = st.lists(_with({"key": _keys}, version=st.integers(0, 9)), max_size=4)
_batches = st.lists(_with({"items": _items, "signature": st.sampled_from(["@", "@", "@", "1:2:x"])}), max_size=3)
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "connect": _with(
        {},
        token=_tokens,
        data=_data,
        subs=st.dictionaries(_channels, _with({}, **_subscribe), max_size=3),
        name=_texts,
        version=_texts,
        headers=st.dictionaries(_texts, _texts, max_size=2),
    ),
    "subscribe": _subscribes,
    "unsubscribe": _with(_named),
    "publish": _with(_named, data=_data, type=st.integers(0, 2), key=_keys, removed=st.booleans()),
    "presence": _with(_named),
    "presence_stats": _with(_named),
    "history": _with(_named, limit=_numbers, since=_positions, reverse=st.booleans()),
    "rpc": _with({}, method=st.sampled_from(["echo", "refuse", "leave", "huh", ""]), data=_data),
    "send": _with({}, data=_data),
    "refresh": _with({"token": st.sampled_from(["@ann", "@ann30", "@annsubs"] * 8 + [*TOKENS, "", "x"])}),
    "sub_refresh": _with(
        {},
        channel=_channels,
        token=_tokens,
        type=st.integers(0, 3),
        track=_batches,
        untrack=st.lists(_keys, max_size=3),
    )
    | _with({"channel": st.sampled_from(["poll:1", "pollless:1"]), "type": st.just(1), "track": _batches}),
    "ping": _with({}),
}
"""The body of each command."""

_USUAL = ("publish", "presence", "presence_stats", "history", "rpc", "refresh", "sub_refresh", "unsubscribe")
_KINDS = (*["subscribe"] * 9, *_USUAL * 3, *BODIES)
_commands = st.one_of(
    *[
        st.builds(lambda number, body, kind=kind: {"id": number, kind: body}, st.integers(1, 60000), BODIES[kind])
        for kind in _KINDS
    ]
)
_connects = st.builds(lambda body: {"id": 1, "connect": body}, BODIES["connect"])
_letters = st.sampled_from(
    [*[b"p"] * 8, *[b"k"] * 4, *[b"t"] * 2, *[b"o"] * 2, *[verb for verb in VERBS if verb != b"d"]]
)
_LONG = b'{"text":"that is the same each time, and long enough for a patch to be shorter","n":%d}'
_payloads = st.sampled_from(
    [_LONG % 1, _LONG % 2, _LONG % 3, b'{"n":1}', b"1", b'"a\\n"', b"{}", b"\xff", b"", b"{\n}"]
)
_garbage = st.binary(max_size=30) | st.sampled_from([b"", b"{}", b"\x00", b"{}\n{}", b"[]", b"null", b'{"id":1}'])


_damaged = st.sampled_from([False] * 15 + [True])
_damage = st.tuples(st.integers(0, 5000), st.integers(0, 255), st.booleans())


_kinds = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4, 5]).flatmap(lambda kind: st.sampled_from([kind, kind + PROGRAM]))
_first = st.one_of(*[st.just({"id": 1, "connect": {"token": "@ann"}})] * 3, _connects)
_begun = _with({"channel": st.just("@a")}, **_good) | _subscribes
_verbs = st.sampled_from(["frame"] * 18 + ["act"] * 18 + ["garbage"])


@st.composite
def scenes(draw: st.DrawFn) -> bytes:
    """Most begin with a connect that is good."""
    kind = draw(_kinds)
    focus = {name: draw(st.sampled_from([*CHANNELS[:6] * 3, *CHANNELS])) for name in FOCUS}
    step = {"frame": _frames(kind, focus), "act": _acts(focus), "garbage": _garbage}
    steps = [draw(step[draw(_verbs)]) for _ in range(draw(st.integers(2, 14)))]
    begun = [{"id": 60001, "subscribe": draw(_begun)}]
    return scene(kind, *[_about(each, focus) for each in (draw(_first), *begun)], *steps)


@st.composite
def _frames(draw: st.DrawFn, kind: int, focus: dict[str, str]) -> bytes:
    """A frame of commands; some have been damaged since."""
    frame = encode(kind, *_about(draw(st.lists(_commands, min_size=1, max_size=2)), focus))
    if draw(_damaged):
        at, byte, instead = draw(_damage)
        place = at % (len(frame) + 1)
        frame = frame[:place] + bytes([byte]) + frame[place + instead :]
    return b">" + frame


@st.composite
def _acts(draw: st.DrawFn, focus: dict[str, str]) -> bytes:
    verb = draw(_letters)
    channel = CHANNELS.index(draw(st.sampled_from([*focus.values()])))
    number = draw(st.sampled_from([channel, channel + 7 * len(CHANNELS), draw(st.integers(0, 255))]))
    return verb + bytes([number]) + (bytes([channel]) if verb == b"o" else draw(_payloads))


def _about(value: Any, focus: dict[str, str]) -> Any:
    """The same with a channel's name where a word stands for one."""
    if isinstance(value, dict):
        return {focus.get(key, key): _about(each, focus) for key, each in value.items()}
    if isinstance(value, list):
        return [_about(each, focus) for each in value]
    return focus.get(value, value) if isinstance(value, str) else value
