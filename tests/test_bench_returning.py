"""The return of a dead node's clients is measured, and each of them has to get what it missed."""

import json
import os
from contextlib import closing
from typing import Any

import pytest
from hiredis import pack_command
from redis import Redis

from bench.__main__ import Bench, Options
from bench.injection import Commands
from bench.measures import COST
from bench.redises import Layout
from bench.returning import BEFORE, CLIENTS, LAST, LONGEST, MEANWHILE, READY, check, hello, live, missed
from bench.servers import Failed, Server
from bench.works import BY_NAME
from gateway.bench.plan import Plan


def test_clients_of_a_node_that_is_killed_recover_at_another(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    kill = Server.kill

    def note_and_kill(server: Server) -> None:
        killed.append(server.port)
        kill(server)

    monkeypatch.setattr(Server, "kill", note_and_kill)
    monkeypatch.setattr("os.sched_setaffinity", lambda _process, _cores: None)
    work, share = BY_NAME["return"], 20 / CLIENTS
    bench = Bench(Options(works=[work], systems=work.systems, rounds=1, seconds=0.5, share=share, against=None))
    bench.run()
    assert bench.failures == []
    (sample,) = bench.results[0].samples["history-redis"]
    assert list(sample.values) == [LAST, READY, COST, BEFORE, MEANWHILE, LONGEST]
    assert all(sample.values[name] > 0 for name in (LAST, READY, COST, BEFORE)), sample
    assert len(killed) == 1


def test_who_is_killed_has_ended() -> None:
    with Layout().running(min(os.sched_getaffinity(0))) as redises:
        (server,) = redises.servers
        server.kill()
        with pytest.raises(Failed, match="ended with status -9"):
            server.check()


def test_what_is_published_while_they_are_away_is_carried_out() -> None:
    with Layout().running(min(os.sched_getaffinity(0))) as redises:
        port = redises.servers[0].port
        with closing(Commands(port)) as commands, closing(Redis(port=port)) as redis:
            slow, after = (b"BLPOP", b"nothing", b"0.2"), (b"INCR", b"done")
            commands.pending += [pack_command(slow), pack_command(after)]  # type: ignore[arg-type]  # as in injection
            commands.finish()
            assert redis.get("done") == b"1"
            assert not commands.pending


def confirmation(**result: Any) -> bytes:
    """As it stands behind the beginning of a reply, with another frame behind it."""
    return b":" + json.dumps(result).encode() + b"}\x81\x02{}"


def test_who_comes_back_asks_from_where_it_was() -> None:
    (frame,) = hello(confirmation(epoch="abc", offset=7, recoverable=True))
    _, subscribe = map(json.loads, frame.splitlines())
    assert subscribe["subscribe"] == {"channel": "{channel}", "recover": True, "offset": 7, "epoch": "abc"}
    assert b'"offset":0' in hello(confirmation(epoch="abc"))[0]


def test_some_have_missed_nothing_and_no_two_the_same() -> None:
    assert [len(missed(number)) for number in range(4)] == [0, 1, 2, 0]
    assert missed(1) != missed(4)


@pytest.mark.parametrize(
    ("recovered", "publications"),
    [(False, [3, 4]), (True, []), (True, [3]), (True, [4, 3]), (True, [3, 4, 4])],
    ids=["not recovered", "nothing", "less", "in another order", "twice"],
)
def test_who_gets_something_else_than_it_missed_is_told_of(recovered: bool, publications: list[int]) -> None:
    expected = [{"n": 3}, {"n": 4}]
    check(confirmation(recovered=True, publications=[{"data": each} for each in expected]), expected)
    check(confirmation(recovered=True), [])
    came = [{"data": {"n": each}} for each in publications]
    with pytest.raises(Failed, match=r"missed \[{'n': 3}"):
        check(confirmation(recovered=recovered, publications=came), expected)


def test_live_traffic_that_cannot_be_is_told_of() -> None:
    with pytest.raises(Failed, match="live traffic: "), live(Plan(port=1, connections=1)):
        pass
