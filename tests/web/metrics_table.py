"""The table of metrics in docs/metrics.md. ``python -m tests.web.metrics_table`` brings it up to date."""

from pathlib import Path

from gateway.web.exposition import DEFINITIONS, Definition
from gateway.web.workers import HOST_DEFINITIONS, Host

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
METRICS: list[Host | Definition] = [*HOST_DEFINITIONS, *DEFINITIONS]
HEAD = "| name | labels | kind | meaning |\n|---|---|---|---|\n"


def table() -> str:
    """As the page has it."""
    lines = [
        f"| `{each.exposed}` | {', '.join(f'`{label}`' for label in each.labels)} | {each.kind} | {each.help} |\n"
        for each in METRICS
    ]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    before, after = PAGE.read_text().split(HEAD)
    PAGE.write_text(before + table() + after[after.index("\n\n") + 1 :])
