from collections import Counter

from gateway.jump import jump

NAMES = [f"room{number}" for number in range(20_000)]


def test_shares_are_even() -> None:
    for places in (1, 2, 3, 7):
        shares = Counter(jump(name, places) for name in NAMES)
        assert set(shares) == set(range(places))
        assert max(shares.values()) < 1.05 * len(NAMES) / places


def test_one_place_more_moves_its_share_alone() -> None:
    for places in (1, 2, 3, 7):
        moved = {jump(name, places + 1) for name in NAMES if jump(name, places + 1) != jump(name, places)}
        assert moved == {places}


def test_the_place_of_a_name_is_for_ever() -> None:
    """Known values: another function would have nodes of two releases look in different places."""
    assert [jump(name, 10) for name in ("", "news", "chat:lobby", "ü")] == [5, 4, 4, 2]
