"""What may be spent in a process, by a clock of ours, and how many accounts are kept."""

import pytest

from gateway.limits.buckets import Account, Accounts, Rules


def taken(account: Account, rules: Rules, kind: str, now: float, times: int) -> int:
    return sum(account.take(rules, kind, now) for _ in range(times))


def test_so_many_at_once_and_then_one_by_one() -> None:
    rules, account = Rules("l", {"publish": "10/second"}), Account()
    assert taken(account, rules, "publish", 1000.0, 25) == 10
    assert taken(account, rules, "publish", 1000.5, 25) == 5
    for second in range(1002, 1062):
        assert taken(account, rules, "publish", second, 25) == 10
    assert taken(account, rules, "publish", 9000.0, 25) == 10  # what is not used is kept for no longer


def test_a_bucket_has_all_of_its_tokens_on_a_clock_of_today() -> None:
    """A float has few digits left there."""
    rules, account = Rules("l", {"publish": "1000/second"}), Account()
    assert taken(account, rules, "publish", 1_800_000_000.3, 2000) == 1000


def test_of_several_buckets_each_must_allow_it() -> None:
    rules, account = Rules("l", {"publish": "5/second 8/minute"}), Account()
    assert taken(account, rules, "publish", 0.0, 9) == 5
    assert taken(account, rules, "publish", 1.0, 9) == 3  # of the minute's 8
    assert taken(account, rules, "publish", 2.0, 9) == 0
    assert taken(account, rules, "publish", 60.0, 9) == 5


def test_what_one_bucket_refuses_costs_the_others_nothing() -> None:
    rules, account = Rules("l", {"publish": "1/second", "history": ""}, total="3/minute"), Account()
    assert taken(account, rules, "publish", 0.0, 50) == 1
    assert taken(account, rules, "history", 0.0, 50) == 2


def test_each_kind_has_a_bucket_of_its_own_and_the_total_is_shared_but_by_what_is_apart() -> None:
    rules = Rules("l", {"publish": "3/second", "history": "3/second", "bytes": "4/second"}, total="5/second")
    rules_apart = Rules("l", {"publish": "3/second", "bytes": "4/second"}, total="5/second", apart=("bytes",))
    account = Account()
    assert [taken(account, rules, kind, 0.0, 9) for kind in ("publish", "history", "bytes")] == [3, 2, 0]
    assert [taken(account, rules_apart, kind, 0.0, 9) for kind in ("publish", "bytes")] == [3, 4]


def test_a_kind_without_a_rate_is_free() -> None:
    rules, account = Rules("l", {"publish": "1/second", "history": ""}), Account()
    assert taken(account, rules, "history", 0.0, 100) == taken(account, rules, "rpc", 0.0, 100) == 100
    account.drain(rules, "rpc", 0.0)
    assert account.wait(rules, "rpc", 0.0) == 0.0


def test_a_cost_is_had_whole_or_not_at_all() -> None:
    rules, account = Rules("l", {"bytes": "100/second"}), Account()
    assert account.take(rules, "bytes", 0.0, 60)
    assert not account.take(rules, "bytes", 0.0, 41)
    assert account.take(rules, "bytes", 0.0, 40)
    assert not account.take(rules, "bytes", 9.0, 101)


def test_what_is_never_refused_empties_a_bucket_but_owes_nothing() -> None:
    rules, account = Rules("l", {"unsubscribe": "", "publish": ""}, total="4/second"), Account()
    for _ in range(100):
        account.drain(rules, "unsubscribe", 0.0)
    assert not account.take(rules, "publish", 0.0)
    assert account.take(rules, "publish", 0.25)


def test_says_when_the_next_may_be_taken() -> None:
    rules, account = Rules("l", {"connect": "2/second 3/minute"}), Account()
    assert account.wait(rules, "connect", 0.0) <= 0
    taken(account, rules, "connect", 0.0, 2)
    assert account.wait(rules, "connect", 0.0) == pytest.approx(0.5, abs=1e-3)
    taken(account, rules, "connect", 0.5, 1)
    assert account.wait(rules, "connect", 0.5) == pytest.approx(19.5, abs=1e-3)


def test_under_other_rules_an_account_begins_anew() -> None:
    """They may have another number of buckets."""
    account, narrow = Account(), Rules("l", {"publish": "1/day"})
    assert taken(account, narrow, "publish", 0.0, 9) == 1
    assert taken(account, Rules("l", {"publish": "2/day 3/day", "history": "1/day"}), "publish", 0.0, 9) == 2


def test_who_is_full_again_is_forgotten() -> None:
    accounts, rules = Accounts(room=1000), Rules("l", {"connect": "1/minute"})
    for number in range(100):
        accounts.of(f"a{number}", rules.longest, 0.0).take(rules, "connect", 0.0)
    assert len(accounts) == 100
    accounts.of("b", rules.longest, 61.0)
    assert len(accounts) == 101  # they were here a minute ago, but perhaps at its end
    accounts.of("c", rules.longest, 122.0)
    assert len(accounts) == 2


def test_who_is_still_empty_is_not_forgotten() -> None:
    accounts, rules = Accounts(room=1000), Rules("l", {"connect": "1/minute"})

    def takes(key: str, now: float) -> bool:
        return accounts.of(key, rules.longest, now).take(rules, "connect", now)

    accounts.of("x", rules.longest, 100.0)  # the generations begin
    assert takes("a", 159.0)
    for second in range(160, 219):
        assert not takes("a", second)
        assert takes(f"b{second}", second)
    assert takes("a", 219.5)


def test_millions_of_addresses_take_no_more_room_than_there_is() -> None:
    accounts, rules = Accounts(room=500), Rules("l", {"connect": "1/hour"})
    most = 0
    for number in range(20_000):
        accounts.of(f"a{number}", rules.longest, 0.0).take(rules, "connect", 0.0)
        most = max(most, len(accounts))
    assert most == 1000
    # the newest are remembered, whoever comes all the time among them
    assert not accounts.of("a19999", rules.longest, 0.0).take(rules, "connect", 0.0)


def test_who_comes_all_the_time_is_remembered_among_millions() -> None:
    accounts, rules = Accounts(room=500), Rules("l", {"connect": "1/hour"})
    assert accounts.of("abuser", rules.longest, 0.0).take(rules, "connect", 0.0)
    for number in range(20_000):
        accounts.of(f"a{number}", rules.longest, 0.0)
        if number % 400 == 0:
            assert not accounts.of("abuser", rules.longest, 0.0).take(rules, "connect", 0.0)
