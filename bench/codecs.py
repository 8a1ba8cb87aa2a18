"""What it takes to write and read messages, in JSON, in Protobuf and by google's runtime; and to make a patch.

    python -m bench.codecs [--runs 200]

Microseconds of one processor, the best of many runs. Google's messages are filled, and read, field by field.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from gateway.messages import ClientInfo, ConnectResult, Payload, Publication, Result, SubscribeResult
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.fossil import create
from gateway.protocols.protobuf import delimited
from tests.protocols.google import google

AT_ONCE = 50
"""Calls between two looks at the clock."""

CHANNEL = "chat:lobby"
CLIENT = "9336a229-2400-4ebc-8c50-0a643d22e8a0"
DATA = b'{"text":"%b"}' % (b"x" * 89)
TOKEN = "x" * 180
JSON, PROTOBUF = CentrifugeJson(), CentrifugeProtobuf()

Call = Callable[[], object]
Row = tuple[str, Sequence[Call]]


def encoding() -> Iterator[Row]:
    """What is encoded, and by what: JSON, Protobuf, google's."""
    reply, push, publication, info = (google(name) for name in ("Reply", "Push", "Publication", "ClientInfo"))

    def pushed(name: str, sent: Publication, fill: Callable[[], Any]) -> Row:
        def by_google() -> bytes:
            written: bytes = reply(push=push(channel=CHANNEL, pub=fill())).SerializeToString()
            return written

        ours = (lambda: JSON.encode_push(CHANNEL, sent), lambda: PROTOBUF.encode_push(CHANNEL, sent))
        return f"encode a publication {name}", (*ours, by_google)

    def answered(name: str, result: Result, fill: Callable[[], Any]) -> Row:
        ours = (lambda: JSON.encode_result(1, result), lambda: PROTOBUF.encode_result(1, result))
        return f"encode the result of a {name}", (*ours, lambda: fill().SerializeToString())

    plain, payload = Publication(Payload(DATA), offset=7), b'{"name":"Ann"}'
    signed = Publication(Payload(DATA), ClientInfo("7", CLIENT, Payload(payload)), 7)
    yield pushed("of 100 bytes", plain, lambda: publication(data=DATA, offset=7))
    publisher = {"user": "7", "client": CLIENT, "conn_info": payload}
    yield pushed("with its publisher", signed, lambda: publication(data=DATA, offset=7, info=info(**publisher)))
    subscribe, connect = google("SubscribeResult"), google("ConnectResult")
    result = SubscribeResult(recoverable=True, epoch="b1fd3af2")
    yield answered("subscribe", result, lambda: reply(id=1, subscribe=subscribe(recoverable=True, epoch="b1fd3af2")))
    told = ConnectResult(CLIENT, "0.2.0", ping=25, pong=True)
    yield answered(
        "connect", told, lambda: reply(id=1, connect=connect(client=CLIENT, version="0.2.0", ping=25, pong=True))
    )


def decoding() -> Iterator[Row]:
    """What is decoded, and by what."""
    command = google("Command")
    for name, fields in (
        ("publish", {"channel": CHANNEL, "data": DATA}),
        ("subscribe", {"channel": CHANNEL, "recover": True, "epoch": "b1fd3af2", "offset": 7}),
        ("connect", {"token": TOKEN, "name": "js", "version": "5.8.0"}),
    ):
        text = {**fields, "data": json.loads(DATA)} if "data" in fields else fields
        frame = json.dumps({"id": 1, name: text}).encode()
        written = command(id=1, **{name: fields}).SerializeToString()

        read = partial(_read, command, written, name, tuple(fields))
        yield f"decode a {name}", (partial(JSON.decode, frame), partial(PROTOBUF.decode, delimited(written)), read)


def _read(command: Any, written: bytes, name: str, fields: Sequence[str]) -> object:
    read = command.FromString(written)
    body = getattr(read, name)
    return read.id, [getattr(body, field) for field in fields]


def patching(size: int, changed: float) -> Call:
    """A patch between two states of so many bytes, of whose numbers so many have changed."""
    chance = random.Random(size)
    numbers = [chance.randrange(100_000) for _ in range(size // 14)]
    states = []
    for _ in range(2):
        states.append(json.dumps({f"k{index:05}": number for index, number in enumerate(numbers)}).encode()[:size])
        numbers = [chance.randrange(100_000) if chance.random() < changed else number for number in numbers]
    return partial(create, *states)


def best(call: Call, runs: int, at_once: int = AT_ONCE) -> float:
    """Microseconds of one call."""
    found = float("inf")
    for _ in range(runs):
        begun = time.thread_time()
        for _ in range(at_once):
            call()
        found = min(found, time.thread_time() - begun)
    return found / at_once * 1e6


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.codecs", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="the best of so many counts")
    runs = parser.parse_args(arguments).runs
    print("| | JSON | Protobuf | by google's runtime |\n|---|---:|---:|---:|")
    for name, calls in (*encoding(), *decoding()):
        print(f"| {name} | {' | '.join(f'{best(call, runs):.1f}' for call in calls)} |")
    print("\n| a patch, of whose numbers have changed | 1 % | half | all |\n|---|---:|---:|---:|")
    for size in (1_000, 10_000, 64_000):
        cells = [f"{best(patching(size, changed), runs, 1):.0f}" for changed in (0.01, 0.5, 1.0)]
        print(f"| {size:,} bytes | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
