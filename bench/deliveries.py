"""What a delivery costs the server in each form that a subscriber may ask for, beside plain JSON on the same server."""

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from bench.crowd import CONNECT, UPGRADE, Way, get, lasting, measure, websocket
from bench.measures import Run, Values
from gateway.bench.dialect import BINARY, client_frame, to_protobuf

SUBSCRIBERS = 1_000
GROUPS, KEYS = 10, 10
JSON_COST = "JSON, µs"

_PADDING = "x" * 200


class Form(Struct, frozen=True):
    """A way to be compared, and plain JSON that is published and kept just so."""

    way: Way
    base: Way


def _publication(channel: str, more: Callable[[int], str], number: int) -> str:
    """Some hundred bytes, of which one value differs from publication to publication."""
    data = f'{{"x":"{_PADDING}","t":"mark","n":"{number:08}","y":"{_PADDING}"}}'
    return f'{{"channel":"{channel}",{more(number)}"data":{data}}}'


def _commands(channel: str, more: Callable[[int], str], number: int) -> str:
    return f'{CONNECT}\n{{"id":2,"subscribe":{{"channel":"{channel}"{more(number)}}}}}'


def _nothing(_number: int) -> str:
    return ""


def _way(
    name: str,
    channel: str,
    subscribing: Callable[[int], str] = _nothing,
    publishing: Callable[[int], str] = _nothing,
    *,
    mark: bytes = b'"t":"mark"',
    share: float = 1.0,
    api: bool = False,
) -> Way:
    return Way(
        name=name,
        request=lambda number: websocket(_commands(channel, subscribing, number)),
        publication=partial(_publication, channel, publishing),
        mark=mark,
        share=share,
        api=api,
    )


def _filter(cmp: str, prefix: str, number: int) -> str:
    return f',"tf":{{"key":"group","cmp":"{cmp}","val":"{prefix}{number % GROUPS}"}}'


def _tags(number: int) -> str:
    return f'"tags":{{"group":"{number % GROUPS}"}},'


def _key(number: int) -> str:
    return f'"type":1,"key":"key{number % KEYS}",'


def _protobuf(_number: int) -> bytes:
    commands = to_protobuf(_commands("room", _nothing, 0).encode())
    return get("websocket", rest=f"Sec-WebSocket-Protocol: centrifuge-protobuf\r\n{UPGRADE}") + client_frame(
        commands, BINARY
    )


PLAIN = _way("JSON", "room")
KEPT = _way("JSON with history", "delta:room")
TAGGED = _way("JSON with tags", "room", publishing=_tags, api=True)

FORMS = (
    Form(Way(name="Protobuf", request=_protobuf, ready=b"\x08\x02\x32", publication=PLAIN.publication), PLAIN),
    Form(
        _way("delta", "delta:room", lambda _: ',"delta":"fossil"', mark=b'"pub":{'),  # a patch has only what changes
        KEPT,
    ),
    Form(
        _way("filters, all pass", "tags:room", partial(_filter, "neq", "not "), _tags, api=True),
        TAGGED,
    ),
    Form(
        _way("filters, a tenth passes", "tags:room", partial(_filter, "eq", ""), _tags, share=1 / GROUPS, api=True),
        TAGGED,
    ),
    Form(_way("map", "map:room", lambda _: ',"type":1,"phase":2', _key), KEPT),
)


def deliveries(run: Run, inflight: int = 2) -> Values:
    """What JSON itself costs, and of each form, how many times as much as JSON that was measured just before."""
    found: dict[str, float] = {}
    for form in FORMS:
        base, cost = (_cost(run, each, inflight) for each in (form.base, form.way))
        found.setdefault(JSON_COST, base)
        found[f"{form.way.name}, × JSON"] = cost / base
    return found


def _cost(run: Run, way: Way, inflight: int) -> float:
    seconds = run.seconds / 5
    size = max(GROUPS, run.count(SUBSCRIBERS) // GROUPS * GROUPS)
    return measure(run.server, way, size, inflight, lasting(seconds / 5), lasting(seconds))
