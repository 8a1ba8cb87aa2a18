"""The return of a dead node's clients is measured, and each of them has to get what it missed."""

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from bench.__main__ import Bench, Options
from bench.measures import COST, SERVER
from bench.redises import Layout
from bench.returning import BEFORE, CLIENTS, LAST, LONGEST, MEANWHILE, READY, check, hello, live, missed, publish
from bench.servers import Failed, Server
from bench.works import BY_NAME
from gateway.bench.plan import Plan
from tests.bench.servers import raw


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
    assert list(sample.values) == [LAST, READY, COST, SERVER, BEFORE, MEANWHILE, LONGEST]
    assert all(sample.values[name] > 0 for name in (LAST, READY, COST, BEFORE)), sample
    assert len(killed) == 1


def test_who_is_killed_has_ended() -> None:
    with Layout().running(min(os.sched_getaffinity(0))) as redises:
        (server,) = redises.servers
        server.kill()
        with pytest.raises(Failed, match="ended with status -9"):
            server.check()


def confirmation(**result: Any) -> bytes:
    """As it stands behind the beginning of a reply, with another frame behind it."""
    return b":" + json.dumps(result).encode() + b"}\x81\x02{}"


def test_who_comes_back_asks_from_where_it_was() -> None:
    (frame,) = hello(confirmation(epoch="abc", offset=7, recoverable=True))
    _, subscribe = map(json.loads, frame.splitlines())
    assert subscribe["subscribe"] == {"channel": "{channel}", "recover": True, "offset": 7, "epoch": "abc"}
    assert b'"offset":0' in hello(confirmation(epoch="abc"))[0]


def test_a_third_of_them_have_missed_something() -> None:
    assert [missed(number) for number in range(4)] == [[{"client": 0}], [], [], [{"client": 3}]]


def run(port: int = 0) -> Any:
    return SimpleNamespace(system=SimpleNamespace(name="one"), server=SimpleNamespace(port=port))


@pytest.mark.parametrize(
    ("number", "recovered", "clients"),
    [(3, False, [3]), (3, True, []), (3, True, [4]), (3, True, [3, 3]), (4, True, [3])],
    ids=["not recovered", "nothing", "another's", "twice", "too much"],
)
def test_who_is_not_given_what_it_missed_is_told_of(number: int, recovered: bool, clients: list[int]) -> None:
    right = {3: confirmation(recovered=True, publications=[{"data": {"client": 3}}]), 4: confirmation(recovered=True)}
    check(run(), right)
    publications = [{"data": {"client": each}} for each in clients]
    with pytest.raises(Failed, match="one: a client that has missed"):
        check(run(), {**right, number: confirmation(recovered=recovered, publications=publications)})


def test_what_cannot_be_published_is_told_of() -> None:
    refused = b'{"replies":[{"error":{"code":100}}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(refused), refused)
    with raw(answer) as port, pytest.raises(Failed, match=r'one does not publish: .*"code":100'):
        publish(run(port), [("channel", {"client": 1})])


def test_live_traffic_that_cannot_be_is_told_of() -> None:
    with pytest.raises(Failed, match="live traffic: "), live(Plan(port=1, connections=1)):
        pass
