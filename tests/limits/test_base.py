"""How limits are written."""

import pytest

from gateway.limits.base import LONGEST, Rate, Window, parse_rate, parse_window


@pytest.mark.parametrize(
    ("spec", "window"),
    [
        ("10/second", Window(10, 1_000_000)),
        ("1/minute", Window(1, 60_000_000)),
        ("600/hour", Window(600, 3_600_000_000)),
        (" 1000/day ", Window(1000, 86_400_000_000)),
        ("5/10s", Window(5, 10_000_000)),
        ("5/300ms", Window(5, 300_000)),
        ("5/1h30m", Window(5, 5_400_000_000)),
        ("1/366d", Window(1, LONGEST)),
    ],
)
def test_windows(spec: str, window: Window) -> None:
    assert parse_window(spec) == window


@pytest.mark.parametrize(
    ("spec", "burst", "rate"),
    [
        ("10/second", None, Rate(100_000, 10)),
        ("10/second", 20, Rate(100_000, 20)),
        ("5/10s", 1, Rate(2_000_000, 1)),
        ("3/second", None, Rate(333_333, 3)),
        ("100000/second", None, Rate(10, 100_000)),
        ("1000000/second", None, Rate(1, 1_000_000)),
        ("20000/second", 1, Rate(50, 1)),
    ],
)
def test_rates(spec: str, burst: int | None, rate: Rate) -> None:
    assert parse_rate(spec, burst) == rate


@pytest.mark.parametrize(
    "spec",
    ["10/fortnight", "0/second", "-1/second", "1.5/second", "10", "10/", "10/5", "10/0s", "1/367d", "ten/second", "",
     "1/second/second", "9999999999999/day"],
)  # fmt: skip
def test_what_is_no_limit_is_answered_with_an_example(spec: str) -> None:
    with pytest.raises(ValueError, match=r'is no limit \(.+\); write for example "10/second"') as caught:
        parse_window(spec)
    assert repr(spec) in str(caught.value)
    with pytest.raises(ValueError, match="is no limit"):
        parse_rate(spec)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [("600000/second", 500_000), ("5000000/second", 1_000_000), ("900000000/second", 1_000_000), ("600/1ms", 500_000)],
)
def test_rates_that_microseconds_cannot_tell_apart(spec: str, kept: int) -> None:
    with pytest.raises(ValueError, match=f'{spec!r} .* for example "{kept}/second"'):
        parse_rate(spec)


@pytest.mark.parametrize("burst", [0, -1, 367])
def test_a_burst_that_cannot_be(burst: int) -> None:
    with pytest.raises(ValueError, match=rf"burst={burst} .* for example RateLimit\("):
        parse_rate("1/day", burst)
