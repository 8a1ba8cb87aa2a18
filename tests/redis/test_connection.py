"""One connection to Redis under a clock of the test's own: who is dead, who is busy, and how much is under way."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import BrokerUnavailable
from gateway.redis.connection import (
    LAST_LOOK,
    UNDER_WAY,
    UNDER_WAY_BYTES,
    RedisConnection,
    SubscriberConnection,
)
from gateway.redis.keys import slot
from gateway.redis.script import Script

TIMEOUT = 4.0


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The part of an event loop that a connection uses; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(when, lambda: call(*args))
        self.timers.append(timer)
        return timer

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        return self.call_at(self.now + delay, call, *args)

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        soon, self.soon = self.soon, []
        for call in soon:
            call()
        due = [timer for timer in self.timers if timer.when <= self.now]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.call()


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Peer:
    """A connection, its loop and its transport."""

    def __init__(self, connection: RedisConnection) -> None:
        self.loop = connection._loop = Loop()  # type: ignore[assignment]
        self.connection = connection
        self.transport = Transport()
        connection.connection_made(self.transport)

    @property
    def sent(self) -> int:
        return b"".join(self.transport.writes).count(b"GET")

    def answer(self, count: int = 1) -> None:
        self.connection.data_received(b"+OK\r\n" * count)

    @property
    def given_up(self) -> bool:
        return self.connection.closed.done()


@pytest.fixture
async def peer() -> Peer:
    return Peer(RedisConnection(TIMEOUT))


async def test_a_busy_pipeline_that_makes_progress_is_alive(peer: Peer) -> None:
    answers = [peer.connection.execute("GET", "k") for _ in range(10)]
    peer.loop.turn()
    for _ in range(10):  # the last command is ten times as old as silence may last
        peer.loop.turn(TIMEOUT * 0.9)
        assert not peer.given_up
        peer.answer()
    assert [answer.result() for answer in answers] == [b"OK"] * 10
    peer.loop.turn(10 * TIMEOUT)
    assert not peer.given_up  # nothing is due
    assert peer.loop.timers == []


async def test_a_part_of_a_long_answer_is_progress(peer: Peer) -> None:
    answer = peer.connection.execute("GET", "k")
    peer.loop.turn()
    peer.connection.data_received(b"$20\r\n")
    for _ in range(10):
        peer.loop.turn(TIMEOUT * 0.9)
        peer.connection.data_received(b"xx")
    peer.connection.data_received(b"\r\n")
    assert answer.result() == b"x" * 20


async def test_silence_gives_the_connection_up_however_new_the_commands(peer: Peer) -> None:
    answers = []
    for _ in range(5):
        answers.append(peer.connection.execute("GET", "k"))
        peer.loop.turn(TIMEOUT / 4)
    peer.loop.turn(LAST_LOOK)
    assert peer.given_up
    assert peer.transport.aborted
    assert [type(answer.exception()) for answer in answers] == [BrokerUnavailable] * 5


async def test_silence_begins_with_the_command_not_before(peer: Peer) -> None:
    peer.loop.turn(100 * TIMEOUT)
    answer = peer.connection.execute("GET", "k")
    peer.loop.turn(TIMEOUT * 0.9)
    peer.loop.turn(LAST_LOOK)
    peer.answer()
    assert answer.result() == b"OK"


async def test_answers_that_lie_in_the_socket_of_a_node_that_was_held_up_count(peer: Peer) -> None:
    answer = peer.connection.execute("GET", "k")
    peer.loop.turn()
    peer.loop.turn(10 * TIMEOUT)  # the timer is run before the socket is read
    peer.answer()
    peer.loop.turn(LAST_LOOK)
    assert answer.result() == b"OK"
    assert not peer.given_up


async def test_messages_are_progress_too() -> None:
    peer = Peer(SubscriberConnection(TIMEOUT, {}))
    answer = peer.connection.execute("SUBSCRIBE", "c")
    peer.loop.turn()
    for _ in range(5):
        peer.loop.turn(TIMEOUT * 0.9)
        peer.connection.data_received(b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n")
    peer.connection.data_received(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    assert answer.done()
    assert not peer.given_up


async def test_an_unsubscribe_that_crosses_the_servers_own_word_is_answered_once() -> None:
    """A cluster whose slot moves ends the subscription by itself, then refuses our own wish to end it."""
    lost: list[bytes] = []
    peer = Peer(SubscriberConnection(TIMEOUT, {}, b"smessage", lost.append))
    gone, stays = b"{a}1", b"{b}1"
    answers = [
        peer.connection.execute("SUNSUBSCRIBE", gone),
        peer.connection.execute("SSUBSCRIBE", stays),
        peer.connection.execute("SUNSUBSCRIBE", gone),
    ]
    peer.loop.turn()
    own_word, refused = b"*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{a}1\r\n:0\r\n", b"-MOVED %d h:1\r\n" % slot(gone)
    peer.connection.data_received(own_word + refused)
    peer.connection.data_received(b"*3\r\n$10\r\nssubscribe\r\n$4\r\n{b}1\r\n:1\r\n")
    peer.connection.data_received(own_word + refused)
    assert [answer.exception() for answer in answers] == [None] * 3
    assert lost == []
    assert not peer.given_up


async def test_so_many_commands_are_under_way_and_the_rest_waits_in_order(peer: Peer) -> None:
    answers = [peer.connection.execute("GET", f"{number}") for number in range(UNDER_WAY + 10)]
    peer.loop.turn()
    assert peer.sent == UNDER_WAY
    assert len(peer.transport.writes) == 1
    peer.answer(3)
    assert peer.sent == UNDER_WAY + 3
    peer.answer(UNDER_WAY)
    peer.answer(7)
    assert all(answer.done() for answer in answers)
    assert b"".join(peer.transport.writes).endswith(b"$4\r\n%d\r\n" % (UNDER_WAY + 9))


async def test_so_many_bytes_are_under_way(peer: Peer) -> None:
    large = b"x" * (UNDER_WAY_BYTES // 2)
    answers = [peer.connection.execute("GET", large) for _ in range(5)]
    peer.loop.turn()
    assert peer.sent == 2
    peer.answer(2)
    assert peer.sent == 4
    peer.answer(2)
    peer.answer()
    assert all(answer.done() for answer in answers)


async def test_those_who_wait_for_their_turn_fail_with_the_connection(peer: Peer) -> None:
    answers = [peer.connection.execute("GET", "k") for _ in range(UNDER_WAY + 10)]
    peer.loop.turn()
    peer.connection.drop("lost")
    errors = [answer.exception() for answer in answers]
    with pytest.raises(BrokerUnavailable) as last:
        await peer.connection.execute("GET", "k")
    stored = [error.stored for error in (*errors, last.value) if isinstance(error, BrokerUnavailable)]
    assert stored == ["maybe"] * UNDER_WAY + ["no"] * 11, "what has left may have been carried out"


async def test_a_refusal_says_whether_anything_was_stored(peer: Peer) -> None:
    for answer, stored in (
        (b"-ERR no such thing", "maybe"),
        (b"-OOM used memory > maxmemory", "no"),
        (b"-NOPERM this user has no permissions to run the 'get' command", "no"),
        (b"-ERR The user executing the script can't run this command or subcommand script: 1", "maybe"),
    ):
        refused = peer.connection.execute("GET", "k")
        peer.loop.turn()
        peer.connection.data_received(answer + b"\r\n")
        error = refused.exception()
        assert isinstance(error, BrokerUnavailable)
        assert error.stored == stored, "an error amid a script comes after what it has done before"


def sent_scripts(peer: Peer) -> list[tuple[bytes, bytes]]:
    """How each script was sent, and its argument."""
    words = b"".join(peer.transport.writes).split(b"\r\n")
    return [(word, words[at + 8]) for at, word in enumerate(words) if word in (b"EVAL", b"EVALSHA")]


async def test_scripts_that_the_server_has_forgotten_run_in_the_order_in_which_they_came(peer: Peer) -> None:
    script, answers = Script(), []
    script.text = b"return ARGV[1]"
    for name in ("1", "2"):
        answers.append(peer.connection.run(script, ["k"], [name]))
        peer.loop.turn()
    peer.connection.data_received(b"-NOSCRIPT No matching script.\r\n")
    answers.append(peer.connection.run(script, ["k"], ["3"]))  # it would be known by then, and 2 is not
    peer.loop.turn()
    peer.connection.data_received(b"-NOSCRIPT No matching script.\r\n")
    peer.answer(3)
    assert [answer.result() for answer in answers] == [b"OK"] * 3
    by_digest, by_text = [(b"EVALSHA", b"1"), (b"EVALSHA", b"2")], [(b"EVAL", b"1"), (b"EVAL", b"2")]
    assert sent_scripts(peer) == [*by_digest, *by_text, (b"EVALSHA", b"3")]


async def test_scripts_that_are_to_be_sent_again_fail_with_the_connection(peer: Peer) -> None:
    script = Script()
    script.text = b"return 1"
    answers = [peer.connection.run(script, ["k"], []) for _ in range(2)]
    peer.loop.turn()
    peer.connection.data_received(b"-NOSCRIPT No matching script.\r\n")
    peer.connection.drop("lost")
    errors = [answer.exception() for answer in answers]
    assert [error.stored for error in errors if isinstance(error, BrokerUnavailable)] == ["no", "maybe"]
