"""Histograms."""

from gateway.metrics import SECONDS, SIZES, Histogram, Histograms, Reads


def test_values_are_counted_by_the_first_bound_that_holds_them() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.0, 1.0, 1.1, 10.0, 10.1, 1e9):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 0.0 + 1.0 + 1.1 + 10.0 + 10.1 + 1e9


def test_bounds_rise() -> None:
    for bounds in (SECONDS, SIZES):
        assert sorted(set(bounds)) == list(bounds)
        assert len(Histogram(bounds).counts) == len(bounds) + 1


def test_each_name_has_one() -> None:
    times = Histograms()
    times["publish"].observe(0.1)
    times["publish"].observe(0.1)
    times["info"].observe(0.1)
    assert {name: sum(each.counts) for name, each in times.items()} == {"publish": 2, "info": 1}


def test_reads_add_up() -> None:
    assert Reads(1, 2) + Reads(3, 4) == Reads(4, 6)
