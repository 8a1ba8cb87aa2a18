"""What a delivery costs over each transport: ``bench/streams`` asks the kernel for the server's processor time.

As many subscribers of one channel as are wanted, one way after the other, in turns. A message is published when all
have got those before it, but for as many as are in flight.
"""

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from os import sched_setaffinity
from pathlib import Path

from bench.__main__ import say
from bench.crowd import CONNECT, SUBSCRIBED, UPGRADE, Way, get, measure, post, websocket
from bench.environment import Missing, machine
from bench.report import grid
from bench.servers import Failed, Server, cores, free_port

SUBSCRIBERS, MESSAGES, ROUNDS = 1_000, 400, 5
DATA = '{"t":"mark","x":"%s"}' % ("x" * 80)
COMMANDS = CONNECT + '\n{"id":2,"subscribe":{"channel":"room"}}'
REQUEST = '{"subs":{"room":{}}}'


def _way(name: str, request: bytes, ready: bytes = SUBSCRIBED) -> Way:
    publication = f'{{"channel":"room","data":{DATA}}}'
    return Way(name=name, request=lambda _: request, ready=ready, publication=lambda _: publication)


WAYS = (
    _way("websocket", websocket(COMMANDS)),
    _way("http_stream", post("/connection/http_stream", COMMANDS)),
    _way("sse", get("sse", COMMANDS)),
    _way("uni_websocket", get("uni_websocket", REQUEST, UPGRADE), b'"room":{'),
    _way("uni_http_stream", post("/connection/uni_http_stream", REQUEST), b'"room":{'),
    _way("uni_sse", get("uni_sse", REQUEST), b'"room":{'),
)


def page(found: dict[str, dict[int, list[float]]], about: str) -> str:
    flights = list(next(iter(found.values())))
    head = ["transport", *(f"µs, {each} in flight" for each in flights), *(f"× websocket, {each}" for each in flights)]
    medians = {name: [statistics.median(by[each]) for each in flights] for name, by in found.items()}
    base = medians["websocket"]
    rows = [
        [name, *(f"{each:.2f}" for each in of), *(_ratio(each, other) for each, other in zip(of, base, strict=True))]
        for name, of in medians.items()
    ]
    return f"{about}\n\n{grid(head, rows, left=1)}\n"


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else ""  # too little for the kernel to count


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/streams", description="Says what a delivery costs the server over each transport."
    )
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS, help=f"default: {SUBSCRIBERS}")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"of each round; default: {MESSAGES}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--inflight", type=int, nargs="+", default=[1, 16], help="default: 1 and 16")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> dict[str, dict[int, list[float]]]:
    core, ours = cores()
    port = free_port()
    environment = {
        "GATEWAY_CLIENT__INSECURE": "true",
        "GATEWAY_CLIENT__PING_INTERVAL": "0",
        "GATEWAY_CLIENT__ADDRESS_CONNECTION_LIMIT": "0",
        "GATEWAY_SHUTDOWN__GRACE": "0",
        **{f"GATEWAY_{way.name.upper()}__ENABLED": "true" for way in WAYS[1:]},
    }
    sched_setaffinity(0, {ours})
    command = [sys.executable, "-m", "gateway", "serve", "--port", str(port)]
    found: dict[str, dict[int, list[float]]] = {way.name: {each: [] for each in given.inflight} for way in WAYS}
    with Server("gateway", command, core, port, "ready", **environment) as server:
        for _ in range(given.rounds):
            for way in WAYS:
                for inflight in given.inflight:
                    rounds = max(1, given.messages // inflight)
                    cost = measure(server, way, given.subscribers, inflight, range(rounds // 10), range(rounds))
                    found[way.name][inflight].append(cost)
    return found


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parse(sys.argv[1:])
    try:
        found = run(given)
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, Missing, OSError) as failure:
        say(f"bench/streams: {failure}")
        return 1
    text = page(
        found,
        f"Measured by `bench/streams` on {time.strftime('%Y-%m-%d')}: {machine()}. {given.subscribers:,} subscribers "
        f"of one channel, messages of {len(DATA)} bytes, processor time of the server for a delivery; medians of "
        f"{given.rounds} rounds.",
    )
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
