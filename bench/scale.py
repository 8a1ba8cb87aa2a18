"""What a service takes of Redis: ``bench/scale`` writes the tables of docs/scale.md."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from os import sched_setaffinity
from pathlib import Path
from random import Random

import msgspec

from bench.__main__ import say
from bench.capacity import (
    HALF,
    USERS_OF_A_NODE,
    Comparison,
    Count,
    Need,
    least,
    need,
    service,
    signs_of_life,
)
from bench.constants import Constants, measured, medians
from bench.environment import Missing, machine
from bench.redises import Layout
from bench.report import grid, number
from bench.servers import Failed, cores

SIZES = 10_000, 1_000_000, 10_000_000
CELLS = 4
"""Parts, each with a Redis and nodes of its own, where one whole has too many nodes."""
COUNTED, NODES, SEED = 20_000, 40, 1
"""Users and nodes that are put somewhere and counted, and where the choice begins."""
LAYOUTS = Layout(2), Layout(4), Layout(3, cluster=True), Layout(5, cluster=True)

WORDS = {
    "append": "a publication with history, of many that come together, µs",
    "append_alone": "… that comes by itself, µs",
    "publish": "a publication without history, of many, µs",
    "publish_alone": "… that comes by itself, µs",
    "delivery": "a delivery to a node, of many publications, µs",
    "delivery_alone": "… of one that comes by itself, µs",
    "subscribe": "a channel subscribed, 512 of them in a command, µs",
    "subscription_bytes": "a channel to which a node is subscribed, bytes",
    "further_bytes": "… for each further node, bytes",
    "stream_bytes": "a channel with one publication of 200 bytes kept, bytes",
}


def nodes_for(users: int) -> int:
    return max(2, -(-users // USERS_OF_A_NODE))


def page(costs: Constants, counted: Sequence[Comparison], about: str) -> str:
    prices = [[WORDS[name], number(value)] for name, value in msgspec.structs.asdict(costs).items()]
    blocks = [
        about,
        "### What things cost Redis",
        grid(["one", "costs"], prices, left=1),
        "### What a service takes",
        grid(HEAD, list(rows(costs)), left=3),
        "### Counted",
        comparisons(counted),
    ]
    return "\n\n".join(blocks) + "\n"


def comparisons(counted: Sequence[Comparison]) -> str:
    found = [
        [each.what, number(each.formula), number(each.counted), "≤" if each.bound else f"{100 * each.off:+.1f} %"]
        for each in counted
    ]
    return grid(["what", "formula", "counted", "off"], found, left=1)


HEAD = (
    "users",
    "nodes",
    "Redis",
    "servers",
    "busiest, % of a core",
    "of that signs of life, %",
    "connections to each",
    "GB in each",
    "s of it to subscribe again",
)


def rows(costs: Constants) -> list[list[str]]:
    found = []
    for users in SIZES:
        found += _alternatives(users, nodes_for(users), "", costs)
    part = SIZES[-1] // CELLS
    return found + _alternatives(part, nodes_for(part), f"{CELLS} × ", costs)


def _alternatives(users: int, nodes: int, times: str, costs: Constants) -> list[list[str]]:
    crowds = service(users)
    ways: dict[str, Need | None] = {
        "one server": need(crowds, nodes, Layout(), costs),
        "shards": least(crowds, nodes, costs, cluster=False),
        "Cluster": least(crowds, nodes, costs, cluster=True),
    }
    return [[f"{times}{users:,}", f"{times}{nodes}", way, *_figures(each, nodes, costs)] for way, each in ways.items()]


def _figures(each: Need | None, nodes: int, costs: Constants) -> list[str]:
    if each is None:
        signs = signs_of_life(nodes) * costs.delivery_alone / 1e4
        return ["none does", "", number(signs), "", "", ""]
    busy = number(100 * each.busy)
    return [
        str(each.layout.servers),
        busy if each.busy <= HALF else f"**{busy}**",
        number(100 * each.signs),
        f"{each.connections:,}",
        number(each.memory / 1e9),
        number(each.again),
    ]


def count(users: int, seed: int) -> list[Comparison]:
    return list(Count(service(users), NODES, Random(seed)).compare(LAYOUTS))


# — the command line —


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/scale",
        description="Measures what things cost Redis, works out what a service takes, and counts a small one after it.",
    )
    parser.add_argument("--users", type=int, default=COUNTED, help=f"that are counted; default: {COUNTED}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"where chance begins; default: {SEED}")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring; default: 3, and the medians of them count")
    parser.add_argument("--smoke", action="store_true", help="measure only for as long as shows that it works")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the tables go; default: standard output")
    given = parser.parse_args(arguments)
    if given.users < 20 * NODES:
        parser.error(f"of fewer than {20 * NODES} users nothing can be said")
    if given.rounds < 1:
        parser.error("there must be a round")
    return given


def about(rounds: int) -> str:
    return (
        f"Measured by `bench/scale` on {time.strftime('%Y-%m-%d')}: {machine()}. Redis on one core, who asks on "
        f"another; medians of {rounds}."
    )


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured or does not fit, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parse(sys.argv[1:])
    core, ours = cores()
    try:
        sched_setaffinity(0, {ours})
        counted = count(given.users, given.seed)
        rounds = [measured(core, 0.02)] if given.smoke else [measured(core) for _ in range(given.rounds)]
        text = page(medians(rounds), counted, about(len(rounds)))
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except (Failed, Missing) as failure:
        say(f"bench/scale: {failure}")
        return 1
    if given.output is None:
        print(text, end="")
    else:
        given.output.write_text(text)
    for each in counted:
        if not each.fits:
            say(f"the formula does not hold: {each.what}: {number(each.formula)}, counted {number(each.counted)}")
    return not all(each.fits for each in counted)


if __name__ == "__main__":
    sys.exit(main())
