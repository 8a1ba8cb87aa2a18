"""Scenes in which every command goes well, for a fuzzer to begin with."""

from collections.abc import Iterator

from tests.fuzz.grammar import BODIES, Body, scene
from tests.fuzz.ground import PROGRAM, PROTOCOLS
from tests.fuzz.options import CHANNELS, TOKENS
from tests.fuzz.scenes import STEP
from tests.protocols.golden import FOLDER, frames

ANN: Body = {"id": 1, "connect": {"token": "@ann", "name": "js", "version": "1", "data": {"a": 1}}}
FILTER = {"op": "and", "nodes": [{"key": "t", "cmp": "in", "vals": ["a", "b"]}, {"key": "n", "cmp": "gte", "val": "1"}]}
LONG = b'{"text":"that is the same each time, and long enough for a patch to be shorter","n":%d}'


def _sub(number: int, channel: str, **more: object) -> Body:
    return {"id": number, "subscribe": {"channel": channel, **more}}


def _published(channel: str, count: int) -> list[bytes]:
    """Some, with tags."""
    return [b"p" + bytes([7 * len(CHANNELS) + CHANNELS.index(channel)]) + LONG % n for n in range(count)]


STREAMS: tuple[list[bytes | Body | list[Body]], ...] = (
    [
        ANN,
        _sub(2, "room:1", delta="fossil", flag=1, data={}),
        *_published("room:1", 3),
        {"id": 3, "publish": {"channel": "room:1", "data": {"text": "hi"}}},
        {"id": 4, "history": {"channel": "room:1", "limit": 2, "since": {"offset": 1, "epoch": "@"}, "reverse": True}},
        [{"id": 5, "presence": {"channel": "room:1"}}, {"id": 6, "presence_stats": {"channel": "room:1"}}],
        b"o\x00\x01",
        {"id": 7, "unsubscribe": {"channel": "room:1"}},
        *_published("room:1", 3),
        _sub(8, "room:1", recover=True, epoch="@", offset=2, delta="fossil"),
        *_published("room:1", 2),
        b"t\x04",
    ],
    [
        {"id": 1, "connect": {"token": "@annsubs", "subs": {"#ann": {"recover": True, "epoch": "@", "offset": 0}}}},
        b"s\x02{}",
        b"p\x0a1",
        b"u\x02x",
        b"m\x01{}",
        b"r\x20x",
        {"id": 2, "refresh": {"token": "@annsubs"}},
        _sub(3, "closed:1", token="@closed30"),
        {"id": 4, "sub_refresh": {"channel": "closed:1", "token": "@closed"}},
        b"t\x05",
        b"d\x00x",
    ],
    [
        ANN,
        b"k\x001",
        b"k\x00{}",
        b"k\x00[1]",
        _sub(2, "board:1", type=1, phase=2, limit=2, delta="fossil", flag=1),
        _sub(3, "board:1", type=1, phase=2, limit=2, cursor="c", epoch="@", offset=3),
        _sub(4, "board:1", type=1, phase=1, epoch="@", offset=3),
        {"id": 5, "publish": {"channel": "board:1", "type": 1, "key": "a", "data": {"v": 1}}},
        {"id": 6, "publish": {"channel": "board:1", "type": 1, "key": "a", "removed": True}},
        b"x\x00x",
        {"id": 7, "unsubscribe": {"channel": "board:1"}},
        _sub(8, "board:1", type=1, phase=1, recover=True, epoch="@", offset=3),
        b"c\x00x",
    ],
    [
        ANN,
        _sub(2, "cursor:1", type=1, phase=2),
        {"id": 3, "publish": {"channel": "cursor:1", "type": 1, "data": {"v": 1}}},
        _sub(4, "brief:1", type=1, phase=2),
        b"k\x011",
        b"t\x03",
        _sub(5, "clients:hall:1", type=2, phase=2),
        _sub(6, "users:hall:1", type=3, phase=2),
        b"o\x00\x06",
        _sub(7, "hall:1"),
        b"o\x01\x06",
    ],
    [
        ANN,
        _sub(2, "poll:1", type=4),
        {"id": 3, "sub_refresh": {"channel": "poll:1", "type": 1, "track": [
            {"signature": "@", "items": [{"key": "a"}, {"key": "b", "version": 1}]},
            {"signature": "@", "items": [{"key": "x1"}]},
        ]}},
        b"t\x02",
        {"id": 4, "sub_refresh": {"channel": "poll:1", "type": 2, "untrack": ["a"]}},
        b"t\x05",
        _sub(5, "pollless:1", type=4),
        {"id": 6, "sub_refresh": {"channel": "pollless:1", "type": 1, "track": [
            {"signature": "@", "items": [{"key": "a"}]}], "untrack": ["b"]}},
        b"t\x02",
    ],
    [
        ANN,
        _sub(2, "cell:1", recover=True),
        b"p\x041",
        _sub(3, "replay:1", tf=FILTER),
        *_published("replay:1", 2),
        _sub(4, "asked:1", positioned=True, recoverable=True, join_leave=True),
        b"p\x031",
        b"t\x06",
    ],
    [
        ANN,
        {"id": 2, "rpc": {"method": "echo", "data": {"a": 1}}},
        {"id": 3, "rpc": {"method": "refuse"}},
        _sub(4, "dm:ab#ann,bob"),
        _sub(5, "bytes:1"),
        b"p\x07\xff",
        {"id": 6, "send": {"data": 1}},
    ],
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    for kind in (*range(len(PROTOCOLS)), *range(PROGRAM, PROGRAM + len(PROTOCOLS))):
        for steps in STREAMS:
            yield scene(kind, *steps)


_KINDS = {"json": 0, "protobuf": 1, "http_stream-json": 2, "http_stream-protobuf": 3, "sse": 2}
_UNI = {"json": 4, "protobuf": 5, "uni_sse": 4}


def transcripts() -> Iterator[bytes]:
    """What clients say in the golden ones."""
    for path in sorted(FOLDER.glob("*.txt")):
        wire = path.name.split(".")[1]
        kind = _UNI[wire.split("-")[-1]] if wire.startswith("uni_") else _KINDS[wire]
        said = frames(path.read_text(), ">", binary=PROTOCOLS[kind][0].binary)
        yield bytes([kind]) + STEP.join(b">" + frame for frame in said)


WORDS = (
    *TOKENS, *CHANNELS, *BODIES, "token", "subs", "recover", "epoch", "offset", "positioned", "recoverable",
    "join_leave", "delta", "fossil", "tf", "flag", "type", "phase", "cursor", "limit", "data", "key", "removed",
    "since", "reverse", "method", "track", "untrack", "signature", "items", "version", "nodes", "vals", "val", "cmp",
    "null", "true", '{"id":1,"', '":{"', "\n--\n", "\n--\n>", "\n--\np", "\n--\nt", "\n--\nk", '","',
)  # fmt: skip
"""What a fuzzer may write in."""
