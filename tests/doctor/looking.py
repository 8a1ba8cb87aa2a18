"""Looking at findings."""

from collections.abc import Iterable

from gateway.doctor.finding import Finding, Level

BAD = (Level.WARNING, Level.PROBLEM)


def bad(findings: Iterable[Finding]) -> list[Finding]:
    """What should be otherwise."""
    return [finding for finding in findings if finding.level in BAD]


def texts(findings: Iterable[Finding]) -> list[str]:
    return [finding.text for finding in findings]


def one(findings: Iterable[Finding], text: str) -> Finding:
    """The one that says this among other things."""
    every = list(findings)
    found = [finding for finding in every if text in finding.text]
    assert len(found) == 1, f'"{text}" among {texts(every)}'
    return found[0]
