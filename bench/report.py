"""Results as Markdown."""

from collections.abc import Iterable, Iterator, Sequence

from bench.results import Result
from bench.systems import BY_NAME


def markdown(results: Sequence[Result], about: str, failures: Sequence[str] = ()) -> str:
    """The page: what it was measured on, a table for each work, the bars, and what failed."""
    blocks = [about]
    for result in results:
        if result.samples:
            blocks += [f"## {result.work.title}", f"`{result.work.name}`", table(result)]
    blocks += bars(results)
    if failures:
        blocks += ["## Not measured", "\n".join(f"- {failure}" for failure in failures)]
    return "\n\n".join(blocks) + "\n"


def table(result: Result) -> str:
    """Medians of each system, its ratios, and the figures of each round."""
    columns = result.columns
    others = _compared(result)
    compared = any(each.theirs for samples in result.samples.values() for each in samples)
    against = ["the other checkout", "× the other checkout"] if compared else []
    head = ["system", "versions", *columns, *(f"× {other}" for other in others), *against]
    head.append(f"{columns[0]}, each round")
    rows = []
    for name in result.work.systems:
        if name in result.samples:
            system = BY_NAME[name]
            ratios = (None if name == other else result.ratio(name, other, columns[0]) for other in others)
            rounds = ", ".join(number(sample.values[columns[0]]) for sample in result.samples[name])
            values = (result.median(name, column) for column in columns)
            row = [system.title, system.versions(), *map(number, values), *map(number, ratios)]
            if compared:
                row += map(number, result.against(name, columns[0]) or (None, None))
            rows.append([*row, rounds])
    return grid(head, rows, left=2)


def _compared(result: Result) -> list[str]:
    """The systems to which ratios are shown: the base, and those that bars name."""
    named = [result.work.base, *(bar.of for bar in result.work.bars)]
    return [name for name in dict.fromkeys(named) if name in result.samples]


def bars(results: Iterable[Result]) -> Iterator[str]:
    """Which bars were reached; nothing if none was tried."""
    rows = []
    for result in results:
        for bar, reached, passed in result.verdicts():
            limits = [f"≥ {number(bar.least)}"] if bar.least is not None else []
            limits += [f"≤ {number(bar.most)}"] if bar.most is not None else []
            of = f" × {bar.of}" if bar.of else ""
            row = [result.work.name, bar.system, bar.value + of, " ".join(limits), number(reached)]
            rows.append([*row, "yes" if passed else "**no**"])
    if rows:
        yield "## Bars"
        yield grid(["work", "system", "value", "bar", "reached", "passed"], rows, left=3)


def number(value: float | None) -> str:
    """Three digits, or all that are before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    rules = ["---" if place < left else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))
