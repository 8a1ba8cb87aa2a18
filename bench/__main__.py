"""The command line of the bench."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import msgspec

from bench import report, systems, works
from bench.environment import Missing, machine
from bench.measures import Run, Values
from bench.results import Result, Sample, medians
from bench.servers import Failed, cores
from bench.systems import System
from bench.works import Work
from gateway.bench.plan import LoadError

SMOKE = (("fanout-2",), ("limit", "gateway"))
"""Work and systems that show that the bench itself works."""


class Options(msgspec.Struct, kw_only=True):
    """What to measure, and how."""

    works: Sequence[Work]
    systems: Sequence[str]
    rounds: int
    seconds: float
    share: float
    """Part of the connections of a full run."""
    against: Path | None
    """Another checkout of the gateway, to be measured in turn with this one."""


class Bench:
    """Measures system by system, round by round. What it has so far is in ``results`` and ``failures``."""

    def __init__(self, options: Options) -> None:
        self.results = [Result(work) for work in options.works]
        self.failures: list[str] = []
        self._options = options
        self._server_core, self._load_core = cores()
        if self._server_core == self._load_core:
            say("there is one core for servers and load: the figures say little")

    def prepare(self) -> None:
        """Install and compile what the chosen systems need. Raises `Missing`."""
        names = {name for work in self._options.works for name in self._chosen(work)}
        for environment in {id(system.environment): system.environment for system in map(_system, names)}.values():
            environment.prepare()

    def run(self) -> None:
        os.sched_setaffinity(0, {self._load_core})
        for result in self.results:
            for round_ in range(self._options.rounds):
                self._round(result, round_)

    def _chosen(self, work: Work) -> list[str]:
        return [name for name in work.systems if name in self._options.systems or name == work.base]

    def _round(self, result: Result, number: int) -> None:
        work = result.work
        names = self._chosen(work)
        others = [name for name in names if name != work.base]
        for name in others or names:
            try:
                beside: Values = {}
                if work.base and name != work.base:
                    (beside,) = self._measure(work, [_system(work.base)], {})
                    result.add(work.base, Sample(number, beside))
                ours, *theirs = self._measure(work, self._checkouts(name), beside)
                result.add(name, Sample(number, ours, beside, *theirs))
            except (Failed, LoadError) as failure:
                say(f"{work.name}, round {number + 1}, {name}: {failure}")
                self.failures.append(f"{work.name}, round {number + 1}, {name}: {str(failure).splitlines()[0]}")

    def _checkouts(self, name: str) -> list[System]:
        """The system, and a gateway as the other checkout has it, if one is compared."""
        system, against = _system(name), self._options.against
        if against is None or system.environment is not systems.GATEWAY:
            return [system]
        return [system, system.of(against)]

    def _measure(self, work: Work, side_by_side: Sequence[System], beside: Values) -> list[Values]:
        """What each of them reaches. They are up together and measured in turns, so that all see the same weather."""
        with ExitStack() as stack:
            runs = [stack.enter_context(self._running(system, beside)) for system in side_by_side]
            turns = [[work.measure(run) for run in runs] for _ in range(work.turns)]
        found = [medians(each[1:] or each) for each in zip(*turns, strict=True)]
        for system, values in zip(side_by_side, found, strict=True):
            figures = ", ".join(f"{key} {report.number(value)}" for key, value in values.items())
            say(f"{work.name}: {system.name}: {figures}")
        return found

    @contextmanager
    def _running(self, system: System, beside: Values) -> Iterator[Run]:
        options = self._options
        with (
            system.redis.running(self._load_core) as redises,
            system.server(self._server_core, redises.url) as server,
        ):
            yield Run(system, server, redises, options.seconds, options.share, beside, self._server_core)


def _system(name: str) -> System:
    return systems.BY_NAME[name]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str]) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measures the gateway beside its peers, server and load on a core each, and writes a table.",
        epilog="Works: " + "; ".join(f"{work.name}: {work.title}" for work in works.WORKS) + ".",
    )
    parser.add_argument("works", nargs="*", metavar="work", choices=[[], *works.BY_NAME], help="default: all of them")
    parser.add_argument(
        "--systems", metavar="A,B", help=f"of each work's systems only these: {', '.join(systems.BY_NAME)}"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3; the medians of them count")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement; some take a multiple")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="measure the gateway of another checkout in turn with this one"
    )
    parser.add_argument("--smoke", action="store_true", help="only show that it works, in a few seconds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the table goes; default: standard output")
    given = parser.parse_args(arguments)
    usual = list(SMOKE[1] if given.smoke else systems.BY_NAME)
    chosen = given.systems.split(",") if given.systems else usual
    if unknown := set(chosen) - set(systems.BY_NAME):
        parser.error(f"no such system: {', '.join(sorted(unknown))}; there are {', '.join(systems.BY_NAME)}")
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("rounds and seconds must be more than 0")
    against: Path | None = given.against and given.against.resolve()
    if against is not None and not (against / "gateway" / "__init__.py").exists():
        parser.error(f"{given.against} is no checkout of the gateway: it has no folder gateway")
    if given.smoke:
        return _options(given.works or SMOKE[0], chosen, 1, 0.5, 0.1, against), given.output
    return _options(given.works or works.BY_NAME, chosen, given.rounds, given.seconds, 1.0, against), given.output


def _options(
    names: Iterable[str], chosen: Sequence[str], rounds: int, seconds: float, share: float, against: Path | None
) -> Options:
    found = [works.BY_NAME[name] for name in names]
    return Options(works=found, systems=chosen, rounds=rounds, seconds=seconds, share=share, against=against)


def about(options: Options) -> str:
    rounds = f"{options.rounds} rounds" if options.rounds > 1 else "1 round"
    return (
        f"Measured by `bench/run` on {time.strftime('%Y-%m-%d')}: {machine()}. Servers on one core, the load and Redis "
        f"on another; medians of {rounds} of {options.seconds:g} s, ratios to what was measured just before."
    )


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Exit code: 0, or 1 when something could not be measured, or 130 when it was interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    options, output = parse(sys.argv[1:])
    code = 0
    try:
        bench = Bench(options)
        bench.prepare()
        try:
            bench.run()
        except KeyboardInterrupt:
            say("interrupted")
            code = 130
        text = report.markdown(bench.results, about(options), bench.failures)
    except Missing as missing:
        say(f"bench/run: {missing}")
        return 1
    if output is None:
        print(text, end="")
    else:
        output.write_text(text)
    return code or bool(bench.failures)


if __name__ == "__main__":
    sys.exit(main())
