"""Latencies in buckets."""

import pytest

from gateway.bench.latency import Latency


def test_percentiles_are_right_to_a_percent_or_two() -> None:
    latency = Latency()
    for micros in range(1, 10_001):
        latency.add(micros)
    assert latency.percentile(0.5) == pytest.approx(0.005, rel=0.02)
    assert latency.percentile(0.99) == pytest.approx(0.0099, rel=0.02)
    assert latency.percentile(1) == pytest.approx(0.01, rel=0.02)
    assert latency.maximum == 0.01


def test_nothing_counted_is_zero() -> None:
    assert (Latency().percentile(0.5), Latency().maximum, list(Latency().histogram())) == (0, 0, [])


def test_one_of_a_sample_stands_for_many() -> None:
    latency = Latency()
    latency.add(1000, 99)
    latency.add(8000)
    assert latency.percentile(0.98) == pytest.approx(0.001, rel=0.02)
    assert latency.percentile(1) == 0.008


def test_merging_adds_up() -> None:
    whole, part = Latency(), Latency()
    whole.add(100)
    part.add(100)
    part.add(3000)
    whole.merge(part)
    assert sum(whole.counts.values()) == 3
    assert whole.maximum == 0.003


def test_the_histogram_doubles_and_has_no_gaps() -> None:
    latency = Latency()
    for micros in (0, 3, 60, 64):
        latency.add(micros)
    bounds = [round(bound * 1e6) for bound, _ in latency.histogram()]
    assert bounds == [1, 2, 4, 8, 16, 32, 64]
    assert [count for _, count in latency.histogram()] == [1, 0, 1, 0, 0, 0, 2]
