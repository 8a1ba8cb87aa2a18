"""How the gateway grows: ``bench/growth`` writes a page of tables and a plot."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from bench.__main__ import say
from bench.environment import Missing, machine
from bench.injection import Injection
from bench.measures import DELIVERIES, LOAD, MEMORY, MESSAGES, SERVER, Run, Values, connected, figures
from bench.report import grid, number
from bench.servers import Failed, Server, cores
from bench.systems import BY_NAME, System, gateway
from gateway.bench.load import Load
from gateway.bench.plan import LoadError

INFLIGHT = 32
"""Messages under way, in all channels together."""
SHARED = 1_000
"""Subscribers of one channel that the nodes share."""

RESIDENT = "MB resident"
COST, PER_DELIVERY = "all nodes, µs per message", "all nodes, µs per delivery"
EACH, REDIS_COST = "each node, µs per message", "Redis, µs per message"

Key = TypeVar("Key")

_REST = 1.0
"""Seconds after which a server has done with new connections."""


class Spread(NamedTuple):
    """Subscribers of one node, as evenly spread over channels as may be."""

    subscribers: int
    channels: int


class Options(msgspec.Struct, kw_only=True):
    """What to measure, and how."""

    spreads: Sequence[Spread]
    nodes: Sequence[int]
    rounds: int
    seconds: float


class Growth(msgspec.Struct):
    """The figures of all rounds, and what could not be measured."""

    spreads: dict[Spread, list[Values]] = {}
    nodes: dict[int, list[Values]] = {}
    failures: list[str] = []


def full(rounds: int, seconds: float) -> Options:
    subscribers, channels = (10, 100, 1_000, 10_000, 15_000), (1, 100, 10_000)
    spreads = [Spread(s, c) for c in channels for s in subscribers if c <= s]
    return Options(spreads=spreads, nodes=(1, 2, 3, 4), rounds=rounds, seconds=seconds)


def smoke() -> Options:
    """As little as shows that it works."""
    return Options(spreads=[Spread(100, 1), Spread(100, 100)], nodes=(1, 2), rounds=1, seconds=0.5)


# — measuring —


class Measuring:
    """Measures everything once in each round.

    So what changes on the machine in the meantime changes all of it alike.
    """

    def __init__(self, options: Options) -> None:
        self.growth = Growth()
        self._options = options
        self._server_core, self._load_core = cores()

    def run(self) -> None:
        os.sched_setaffinity(0, {self._load_core})
        for _ in range(self._options.rounds):
            for spread in self._options.spreads:
                what = f"{spread.subscribers:,} subscribers, {counted(spread.channels, 'channel')}"
                self._try(self.growth.spreads.setdefault(spread, []), what, partial(self._spread, spread))
            for nodes in self._options.nodes:
                self._try(self.growth.nodes.setdefault(nodes, []), counted(nodes, "node"), partial(self._shared, nodes))

    def _try(self, rounds: list[Values], what: str, measure: Callable[[], Values]) -> None:
        try:
            values = measure()
        except (Failed, LoadError) as failure:
            say(f"{what}: {failure}")
            self.growth.failures.append(f"{what}: {str(failure).splitlines()[0]}")
            return
        say(f"{what}: " + ", ".join(f"{name} {number(value)}" for name, value in values.items()))
        rounds.append(values)

    @contextmanager
    def _running(self, system: System) -> Iterator[tuple[Run, Server]]:
        """The system at work, and the Redis beside it."""
        with (
            system.redis.running(self._load_core) as redises,
            system.server(self._server_core, redises.url) as server,
        ):
            yield Run(system, server, redises, self._options.seconds, 1.0, {}, self._server_core), redises.servers[0]

    def _spread(self, spread: Spread) -> Values:
        """One node without Redis; the first connection of each channel publishes."""
        with self._running(BY_NAME["gateway"]) as (run, _):
            with connected(run, Load(run.plan(1))) as first:  # what only the first one costs is not counted
                figures(run, first, run.seconds / 5)
            before = run.server.memory()
            with connected(run, Load(run.plan(*spread, inflight=INFLIGHT))) as load:
                rested = time.monotonic() + _REST
                load.wait(lambda: time.monotonic() > rested)
                memory = run.server.memory()
                report, busy = figures(run, load, run.seconds)
        return {
            DELIVERIES: report.deliveries_per_second,
            MESSAGES: report.messages_per_second,
            RESIDENT: memory / 1e6,
            MEMORY: (memory - before) / spread.subscribers / 1024,
            **busy,
        }

    def _shared(self, nodes: int) -> Values:
        """Nodes that share the subscribers of one channel, and the Redis between them.

        Published straight into Redis, so that what a publishing client costs one of them is not counted.
        """
        system = gateway("nodes", f"{nodes} nodes", "--redis-url", "{redis}", "--workers", str(nodes))
        with self._running(system) as (run, redis):
            plan = run.plan(SHARED, inflight=INFLIGHT)
            injection = Injection(run.redises.servers[0].port, [plan.channel(0)])
            with closing(injection), connected(run, Load(plan, injection.publish, injection.flush)) as load:
                figures(run, load, run.seconds / 5)
                ours, theirs = run.server.cpu(), redis.cpu()
                report, busy = figures(run, load, run.seconds)
                ours, theirs = run.server.cpu() - ours, redis.cpu() - theirs
        if not report.messages:
            raise Failed("nothing was delivered")
        return {
            COST: 1e6 * ours / report.messages,
            PER_DELIVERY: 1e6 * ours / report.deliveries,
            EACH: 1e6 * ours / report.messages / nodes,
            REDIS_COST: 1e6 * theirs / report.messages,
            DELIVERIES: report.deliveries_per_second,
            **busy,
        }


# — the page —


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def medians(samples: Mapping[Key, Sequence[Values]]) -> dict[Key, Values]:
    """Of the rounds that there are."""
    return {
        key: {name: median(values[name] for values in rounds) for name in rounds[0]}
        for key, rounds in samples.items()
        if rounds
    }


def page(growth: Growth, about: str) -> str:
    """The tables, and around them what they show."""
    values = medians(growth.spreads)
    fans = [[f"{s.subscribers:,}", f"{s.channels:,}", number(s.subscribers / s.channels)] for s in values]
    nodes = medians(growth.nodes)
    shares = [[str(count), number(SHARED / count)] for count in nodes]
    text = PAGE.format(
        about=about,
        shared=f"{SHARED:,}",
        spreads=_table(["subscribers", "channels", "subscribers of each"], fans, values.values(), SPREAD_COLUMNS),
        nodes=_table(["nodes", "subscribers of each"], shares, nodes.values(), NODE_COLUMNS),
    )
    if growth.failures:
        text += "\n## Not measured\n\n" + "".join(f"- {failure}\n" for failure in growth.failures)
    return text


SPREAD_COLUMNS = (DELIVERIES, MESSAGES, RESIDENT, MEMORY, SERVER, LOAD)
NODE_COLUMNS = (COST, PER_DELIVERY, EACH, REDIS_COST, DELIVERIES, SERVER, LOAD)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], values: Iterable[Values], columns: Sequence[str]) -> str:
    filled = ([*row, *(number(found[name]) for name in columns)] for row, found in zip(rows, values, strict=True))
    return grid([*head, *columns], list(filled), left=0)


PAGE = """\
# How it grows

{about}

![Deliveries per second, memory, and cost per message](growth.svg)

- **Deliveries per second grow with the messages that a channel gets within a tick** of the event loop: they leave in
  one write to each subscriber. In a single channel all messages in flight may share a write. With more channels than
  messages in flight each has a write to itself, and system calls are most of the work.
- **They grow with the subscribers of a channel**, for a message is read, checked and encoded once for all of them.
  From about a thousand on that counts for little. So does the number of channels as such: ten thousand with a
  subscriber each do not differ much from a hundred.
- **Memory grows with connections, by the same amount for each**, and by some more for each channel that has
  subscribers. (Ten or a hundred connections find most of their room in what the process holds already.)
- **What a message costs a node grows with the node's own subscribers**: not with those of other nodes, nor with the
  number of nodes. A node without subscribers of a channel does not hear of its messages.
- **What a message costs all nodes together** is the deliveries, and on each node that has subscribers the work that is
  done once: it grows slowly with the number of nodes. **Redis** hands each of these nodes the message once,
  however many subscribers they have.

## Subscribers and channels

One node that keeps everything in its memory. In each channel one of the subscribers publishes.

{spreads}

## Nodes

{shared} subscribers of one channel, shared by nodes that Redis joins. Published straight into Redis, as by one node
more, so that none of them has the cost of publishing. The nodes take turns on one core.

{nodes}
"""


# — the plot —


def plot(growth: Growth, path: Path) -> None:
    """Three panels as SVG; the same figures make the same bytes."""
    looks = mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "growth",
            "figure.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )
    with looks:
        _draw(growth).savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw(growth: Growth) -> Figure:
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    speed, memory, cost = figure.subplots(1, 3)
    spreads, nodes = medians(growth.spreads), medians(growth.nodes)
    _by_subscribers(speed, spreads, DELIVERIES)
    speed.set(title="Deliveries per second", xscale="log", yscale="log", xlabel="subscribers")
    _by_subscribers(memory, spreads, RESIDENT)
    memory.set(title="Memory of the node (MB)", xlabel="subscribers", ylim=(0, None))
    memory.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 5, 10]))
    for name, label in ((COST, "all nodes"), (EACH, "each node"), (REDIS_COST, "Redis")):
        cost.plot(list(nodes), [values[name] for values in nodes.values()], marker="o", label=label)
    cost.set(title="µs of processor per message", xlabel="nodes", ylim=(0, None))
    cost.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (speed, memory):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    for axes, place in ((speed, "best"), (memory, "lower right"), (cost, "best")):
        axes.legend(loc=place)
    return figure


def _by_subscribers(axes: Axes, spreads: Mapping[Spread, Values], name: str) -> None:
    """A line for each number of channels."""
    for channels in sorted({spread.channels for spread in spreads}):
        line = sorted((s.subscribers, values[name]) for s, values in spreads.items() if s.channels == channels)
        axes.plot([x for x, _ in line], [y for _, y in line], marker="o", label=counted(channels, "channel"))


# — the command line —


def parse(arguments: Sequence[str]) -> tuple[Options, Path]:
    parser = argparse.ArgumentParser(
        prog="bench/growth",
        description="Measures how the gateway grows with subscribers, channels and nodes: growth.md and growth.svg.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3; the medians of them count")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--smoke", action="store_true", help="only show that it works, in a few seconds")
    parser.add_argument(
        "--output-directory", type=Path, metavar="DIRECTORY", help="default: docs; with --smoke the temporary one"
    )
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("rounds and seconds must be more than 0")
    usual = Path(tempfile.gettempdir() if given.smoke else "docs")
    return smoke() if given.smoke else full(given.rounds, given.seconds), given.output_directory or usual


def about(options: Options) -> str:
    return (
        f"Measured by `bench/growth` on {time.strftime('%Y-%m-%d')}: {machine()}. All nodes on one core, the load and "
        f"Redis on another; {INFLIGHT} messages of 100 bytes in flight in all channels together; medians of "
        f"{counted(options.rounds, 'round')} of {options.seconds:g} s."
    )


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options, directory = parse(sys.argv[1:])
    measuring = Measuring(options)
    try:
        measuring.run()
        (directory / "growth.md").write_text(page(measuring.growth, about(options)))
    except KeyboardInterrupt:
        say("interrupted; nothing is written")
        return 130
    except Missing as missing:
        say(f"bench/growth: {missing}")
        return 1
    plot(measuring.growth, directory / "growth.svg")
    say(f"written: {directory / 'growth.md'}, {directory / 'growth.svg'}")
    return bool(measuring.growth.failures)


if __name__ == "__main__":
    sys.exit(main())
