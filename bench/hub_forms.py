"""The fan-out without sockets, in each form in which a publication may go to its subscribers: for `bench.fan_out`."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

from msgspec import Struct

from gateway.core.audience import Write
from gateway.core.hub import Hub
from gateway.core.tags import TagsFilter
from gateway.core.variants import EVERYTHING
from gateway.errors import Disconnect
from gateway.kinds import Names
from gateway.messages import FilterNode, Payload, Position, Publication
from gateway.metrics import Metrics
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.pusher import PusherProtocol
from gateway.transports.frames import BINARY, TEXT, frame
from gateway.transports.single_frames import DirectWire

CHANNEL, EPOCH = "room", "abcd"
SUBSCRIBERS, SIZE = 1000, 400
JSON = Wire(CentrifugeJson(), partial(frame, TEXT))
PROTOBUF = Wire(CentrifugeProtobuf(), partial(frame, BINARY))
PUSHER = DirectWire(PusherProtocol(Names("")), None)


class Form(Struct, frozen=True, kw_only=True):
    """How the subscribers get what is published."""

    wire: Wire = JSON
    delta: bool = False
    filters: Callable[[int], FilterNode | None] = lambda _: None
    """By the subscriber's number."""
    tags: Callable[[int], dict[str, str] | None] = lambda _: None
    """By the publication's number, as all that follows."""
    key: Callable[[int], str] = lambda _: ""
    share: float = 1.0
    """Part of the subscribers that gets each publication."""


def _equal(of: int) -> Callable[[int], FilterNode]:
    """So many different filters, of which a publication passes one."""
    return lambda number: FilterNode(key="group", cmp="eq", val=str(number % of))


def _group(of: int) -> Callable[[int], dict[str, str]]:
    return lambda number: {"group": str(number % of), "lang": "en"}


def _other(of: int) -> Callable[[int], FilterNode]:
    """So many different filters, of which a publication passes all."""
    return lambda number: FilterNode(key="group", cmp="neq", val=f"not {number % of}")


def _range(of: int) -> Callable[[int], FilterNode]:
    """So many different filters of several conditions, of which a publication passes one."""

    def of_number(number: int) -> FilterNode:
        low, high = number % of, number % of + 1
        bounds = [FilterNode(key="group", cmp="gte", val=str(low)), FilterNode(key="group", cmp="lt", val=str(high))]
        return FilterNode(op="and", nodes=[FilterNode(key="lang", cmp="in", vals=["en", "de"]), *bounds])

    return of_number


FORMS = {
    "json": Form(),
    "protobuf": Form(wire=PROTOBUF),
    "pusher": Form(wire=PUSHER, tags=lambda _: {"event": "tick"}),
    "delta": Form(delta=True),
    "10 filters, all pass": Form(filters=_other(10), tags=_group(10)),
    "10 filters, one passes": Form(filters=_equal(10), tags=_group(10), share=0.1),
    "1,000 filters, all pass": Form(filters=_other(1000), tags=_group(1000)),
    "1,000 filters, one passes": Form(filters=_equal(1000), tags=_group(1000), share=0.001),
    "1,000 filters of ranges, one passes": Form(filters=_range(1000), tags=_group(1000), share=0.001),
    "map": Form(key=lambda number: f"key{number % 10}"),
    "map, delta": Form(key=lambda number: f"key{number % 10}", delta=True),
}


class Client:
    """A connection that throws away what it is sent, and its subscription, in one."""

    channel = CHANNEL
    positioned = True
    joins = False
    batch_delay = 0.0
    number = 0
    held: list[Publication] | None = None
    user = ""

    def __init__(self, number: int, wire: Wire, delta: bool, tags: TagsFilter | None) -> None:
        self.client = str(number)
        self.wire = wire
        self.delta = delta
        self.tags = tags
        self.outbox: list[bytes] | None = None
        self.subscriptions = {CHANNEL: self}
        self.frames = 0

    @property
    def connection(self) -> "Client":
        return self

    @property
    def transport(self) -> "Client":
        return self

    @property
    def write(self) -> Write:
        return self.send

    def send(self, frame: Any) -> None:
        self.frames += 1

    def disconnect(self, reason: Disconnect) -> None:
        raise AssertionError(reason)

    def control(self, command: Any) -> None:
        raise AssertionError(command)

    def lose_position(self, _before: Position | None) -> None:
        raise AssertionError("nothing is lost here")


def data(number: int) -> Payload:
    """Like the one before it but for two values in its midst."""
    return Payload(b'{"x":"%b","t":%016d,"y":"%b"}' % (b"x" * (SIZE // 2), number, b"y" * (SIZE // 2)))


def published(form: Form) -> Iterator[Publication]:
    latest: dict[str, Payload] = {}
    for number in count(1):
        key = form.key(number)
        found = Publication(data(number), offset=number, epoch=EPOCH, tags=form.tags(number), key=key, patchable=True)
        if key:
            found.previous, latest[key] = latest.get(key), found.data
        yield found


async def fan_out(form: Form, subscribers: int, publications: int, inflight: int) -> int:
    """Publish, so many in each tick. Answers how many frames were written."""
    hub = Hub(Metrics())
    clients = []
    for number in range(subscribers):
        node = form.filters(number)
        client = Client(number, form.wire, form.delta, None if node is None else hub.filters.find(node))
        hub.open(client)
        hub.join(client)
        hub.enter(client, Position(0, EPOCH), EVERYTHING if form.delta and form.key(0) else None)
        clients.append(client)
    source = published(form)
    for number in range(0, publications, inflight):
        for _ in range(min(inflight, publications - number)):
            hub.publish(CHANNEL, next(source))
        for _ in range(2):  # the hub looks at the sockets once more before it writes
            await asyncio.sleep(0)
    return sum(client.frames for client in clients)


def main() -> None:
    """What is counted: ``python -m bench.hub_forms FORM SUBSCRIBERS PUBLICATIONS INFLIGHT``."""
    form, *sizes = sys.argv[1:]
    asyncio.run(fan_out(FORMS[form], *map(int, sizes)))


if __name__ == "__main__":
    main()
