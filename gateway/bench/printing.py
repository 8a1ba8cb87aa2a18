"""Shows a report: tables for people, one object for programs, and a bar while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.bench import load
from gateway.bench.report import Report

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
BUSY = 0.9
"""Share of a core above which the load generator may be what limits."""
_BAR = 40


@contextmanager
def progress_bar(console: Console) -> Iterator[load.Progress]:
    """A bar that starts anew with each phase; nothing where no terminal is."""
    columns = TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", count="", total=None)
        current = ""

        def progress(what: str, done: float, whole: float) -> None:
            nonlocal current
            if what != current:
                bar.reset(task, description=what, total=whole)
                current = what
            count = f"{done:,.0f}/{whole:,.0f}" if what == "connecting" else f"{done:.0f}/{whole:g} s"
            bar.update(task, completed=done, total=whole, count=count)

        yield progress


def as_json(report: Report) -> dict[str, Any]:
    """All there is to know, in seconds and counts."""
    latency = report.latency
    return {
        "connections": {
            "asked": report.asked,
            "connected": report.connected,
            "seconds": report.connect_seconds,
            "per_second": report.connects_per_second,
        },
        "seconds": report.seconds,
        "deliveries": report.deliveries,
        "deliveries_per_second": report.deliveries_per_second,
        "messages": report.messages,
        "messages_per_second": report.messages_per_second,
        "latency": {
            **{name: latency.percentile(share) for name, share in PERCENTILES.items()},
            "max": latency.maximum,
            "histogram": [{"up_to": bound, "deliveries": count} for bound, count in latency.histogram()],
        },
        "out_of_order": report.out_of_order,
        "errors": report.errors,
        "busy": report.busy,
        "interrupted": report.interrupted,
    }


def show(report: Report, console: Console) -> None:
    """Print the figures, then the latencies, then what went wrong."""
    if report.interrupted:
        console.print("Interrupted: this is what was measured so far.")
    table = Table(show_header=False, box=None)
    for row in _figures(report):
        table.add_row(*row)
    console.print(table)
    if report.latency.counts:
        console.print(_histogram(report))
    if report.errors:
        errors = Table("Error", "Count")
        for kind, count in report.errors.items():
            errors.add_row(escape(kind), f"{count:,}")
        console.print(errors)
    if report.busy > BUSY:
        console.print("The load generator was busy all the time: take more --processes to see what the server can do.")


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    yield "Connections", f"{report.connected:,} of {report.asked:,}, {report.connects_per_second:,.0f}/s"
    if not report.seconds:
        return
    yield "Measured", f"{report.seconds:.1f} s, load generator busy {report.busy:.0%}"
    yield "Messages", f"{report.messages:,}, {report.messages_per_second:,.0f}/s"
    yield "Deliveries", f"{report.deliveries:,}, {report.deliveries_per_second:,.0f}/s"
    if report.out_of_order:
        yield "Out of order", f"{report.out_of_order:,} on one connection"
    if report.latency.counts:
        for name, share in PERCENTILES.items():
            yield f"Latency {name}", _time(report.latency.percentile(share))
        yield "Latency max", _time(report.latency.maximum)


def _histogram(report: Report) -> Table:
    rows = list(report.latency.histogram())
    whole, most = sum(count for _, count in rows), max(count for _, count in rows)
    table = Table("Up to", "", "Deliveries", box=None)
    for bound, count in rows:
        bar = "█" * round(_BAR * count / most)
        table.add_row(_time(bound), f"{bar:<{_BAR}}", f"{count / whole:7.2%}")
    return table


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
