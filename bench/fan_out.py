"""What the fan-out takes of the processor, without sockets: instructions, which no other work on the machine changes.

Valgrind counts them for `bench.hub_forms`, twice each, so that what a process takes to start falls out.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence

from bench.hub_forms import FORMS, SUBSCRIBERS
from bench.report import grid

_REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")


def instructions(form: str, subscribers: int, publications: int, inflight: int) -> int:
    """What a process of its own takes for this many, with its start."""
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    words = [*valgrind, "-m", "bench.hub_forms", form, *map(str, (subscribers, publications, inflight))]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    found = _REFERENCES.search(run.stderr)
    if run.returncode or found is None:
        raise SystemExit(f"bench/fan_out: {form}: {run.stderr}")
    return int(found[1].replace(",", ""))


def measure(form: str, subscribers: int, publications: int, inflight: int) -> float:
    """Instructions of a publication: the start, and the first that come, are those of both runs."""
    few, many = (instructions(form, subscribers, number, inflight) for number in (publications, 2 * publications))
    return (many - few) / publications


def page(found: Sequence[tuple[str, float]], subscribers: int) -> str:
    base = dict(found).get("json", 0.0)
    rows = [
        [form, f"{cost:,.0f}", f"{cost / base:.2f}" if base else "", f"{cost / subscribers / FORMS[form].share:,.0f}"]
        for form, cost in found
    ]
    return grid(["form", "instructions of a publication", "× json", "of a delivery"], rows, left=1) + "\n"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/fan_out",
        description="Counts the instructions that the fan-out takes, without sockets. Needs Valgrind.",
    )
    parser.add_argument("forms", nargs="*", metavar="form", choices=[[], *FORMS], help=f"of {', '.join(FORMS)}")
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS, help=f"default: {SUBSCRIBERS}")
    parser.add_argument("--publications", type=int, default=64, help="how many are counted; default: 64")
    parser.add_argument("--inflight", type=int, default=2, help="how many come in one tick; default: 2")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse(sys.argv[1:])
    sizes = given.subscribers, given.publications, given.inflight
    found = [(form, measure(form, *sizes)) for form in given.forms or FORMS]
    print(page(found, given.subscribers), end="")


if __name__ == "__main__":
    main()
