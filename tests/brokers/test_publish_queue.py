"""Publishing while the broker is away: who waits, for how long, in which order, and what it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.brokers import publish_queue as module
from gateway.brokers.base import BrokerHealth, HistoryFilter, PublishOptions, StreamOptions
from gateway.brokers.memory import MemoryBroker
from gateway.brokers.publish_queue import NOT_PUBLISHED, PERHAPS_PUBLISHED, PublishQueue, failure
from gateway.brokers.redis import RedisBroker
from gateway.errors import BrokerUnavailable, Error, ErrorCode
from gateway.messages import Payload, Publication, Receipt
from gateway.metrics import Metrics
from gateway.redis.resp import CommandRefused
from tests.brokers.recorder import Recorder
from tests.redis_fixtures import started_shard
from tests.redis_server import RedisServer
from tests.waiting import settle, until

KEPT = StreamOptions(history_size=10_000, history_ttl=60.0)
KEYED = PublishOptions(idempotency_key="k")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Failing(MemoryBroker):
    """Fails as it is told, and writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: Callable[[], Exception] | None = None
        self.asked: list[str] = []
        self.published: list[str] = []
        self.refusal = ""
        self.dead = ""
        """Begins the names of channels that fail."""

    async def publish(self, channel: str, publication: Publication, *others: Any) -> Receipt:
        text = bytes(publication.data).decode()
        self.asked.append(text)
        if self.failing is not None and channel.startswith(self.dead):
            raise self.failing()
        self.published.append(text)
        return await super().publish(channel, publication, *others)

    def health(self) -> BrokerHealth:
        return BrokerHealth(refusal=self.refusal)


def unsent() -> BrokerUnavailable:
    return BrokerUnavailable(stored="no")


def unanswered() -> BrokerUnavailable:
    return BrokerUnavailable(stored="maybe")


class Desk:
    """A queue before a broker that fails, under a clock of the test's own."""

    def __init__(self, wait: float = 1.0) -> None:
        self.clock = Clock()
        self.broker = Failing()
        self.metrics = Metrics()
        self.queue = PublishQueue(self.broker, wait, self.metrics, self.clock)

    def publish(
        self,
        text: str,
        options: PublishOptions = PublishOptions(),  # noqa: B008
        channel: str = "c",
    ) -> "asyncio.Task[Receipt]":
        return asyncio.create_task(self.queue.publish(channel, Publication(Payload(text.encode())), KEPT, options))

    async def attempts(self, count: int) -> None:
        """Wait until the broker has been asked so often."""
        await until(lambda: len(self.broker.asked) >= count)

    def assert_empty(self) -> None:
        queue = self.queue
        assert (len(queue._lanes), queue._count, queue._bytes, queue._timer) == (0, 0, 0, None)


async def told(task: "asyncio.Task[Receipt]") -> tuple[str, str]:
    with pytest.raises(BrokerUnavailable) as caught:
        await asyncio.wait_for(task, 10)
    assert (caught.value.code, caught.value.temporary) == (100, True)
    return caught.value.stored, caught.value.message


async def test_what_is_not_sent_is_published_when_the_broker_is_back() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    task = desk.publish("a")
    await desk.attempts(3)
    assert not task.done()
    desk.broker.failing = None
    assert (await task).offset == 1
    assert desk.broker.published == ["a"]
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()
    assert not desk.metrics.failed_publications


async def test_the_wait_has_an_end() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    tasks = [desk.publish("a"), desk.publish("b", KEYED)]
    await desk.attempts(3)
    desk.clock.now += 0.9
    late = desk.publish("c")
    await desk.attempts(len(desk.broker.asked) + 2)
    assert not any(task.done() for task in tasks)
    desk.clock.now += 0.1
    assert [await told(task) for task in tasks] == [("no", NOT_PUBLISHED)] * 2
    assert not late.done()
    desk.clock.now += 0.9
    assert await told(late) == ("no", NOT_PUBLISHED)
    assert desk.metrics.failed_publications == {"no": 3}
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()


async def test_without_a_wait_it_fails_at_once() -> None:
    desk = Desk(wait=0)
    desk.broker.failing = unsent
    assert await told(desk.publish("a", KEYED)) == ("no", NOT_PUBLISHED)
    assert desk.broker.asked == ["a"]
    desk.assert_empty()


async def test_what_may_have_been_published_is_not_published_again() -> None:
    desk = Desk()
    desk.broker.failing = unanswered
    assert await told(desk.publish("a")) == ("maybe", PERHAPS_PUBLISHED)
    assert desk.broker.asked == ["a"]
    assert desk.metrics.failed_publications == {"maybe": 1}


async def test_with_a_key_it_is_tried_once_more() -> None:
    desk = Desk()
    desk.broker.failing = unanswered
    task = desk.publish("a", KEYED)
    await desk.attempts(1)
    desk.broker.failing = None
    assert (await task).offset == 1
    assert desk.broker.asked == ["a", "a"]


async def test_and_not_a_third_time() -> None:
    desk = Desk()
    desk.broker.failing = unanswered
    assert await told(desk.publish("a", KEYED)) == ("maybe", PERHAPS_PUBLISHED)
    assert desk.broker.asked == ["a", "a"]


async def test_what_was_sent_once_may_be_published_whatever_comes_of_its_repeat() -> None:
    desk = Desk()
    desk.broker.failing = unanswered
    task = desk.publish("a", KEYED)
    await desk.attempts(1)
    desk.broker.failing = unsent
    await desk.attempts(3)
    desk.clock.now += 1
    assert await told(task) == ("maybe", PERHAPS_PUBLISHED)


async def test_an_error_that_does_not_say_is_passed_on() -> None:
    desk = Desk()
    error = BrokerUnavailable("as it is")
    desk.broker.failing = lambda: error
    with pytest.raises(BrokerUnavailable) as caught:
        await desk.publish("a", KEYED)
    assert caught.value is error
    assert desk.broker.asked == ["a"]


async def test_what_is_refused_for_good_does_not_wait() -> None:
    desk = Desk()
    desk.broker.refusal = "OOM"
    desk.broker.failing = lambda: CommandRefused("OOM command not allowed when used memory > 'maxmemory'.")
    assert await told(desk.publish("a", KEYED)) == ("no", NOT_PUBLISHED)
    assert desk.broker.asked == ["a"]


async def test_nobody_overtakes() -> None:
    """Neither who comes while others wait, nor who comes when they are let go."""
    desk = Desk()
    desk.broker.failing = unsent
    tasks = [desk.publish(f"{number}") for number in range(100)]
    await desk.attempts(103)
    tasks += [desk.publish(f"{number}") for number in range(100, 120)]
    await settle()
    desk.broker.failing = None
    assert desk.queue._timer is not None
    desk.queue._timer.cancel()
    desk.queue._probe()
    for number in range(120, 150):
        tasks.append(desk.publish(f"{number}"))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert desk.broker.published == [f"{number}" for number in range(len(tasks))]


async def test_who_fails_late_keeps_its_place() -> None:
    """As one that had not left a connection when it was lost: it hears of it after others have found none."""
    desk = Desk()
    gate = asyncio.Event()
    inner = desk.broker.publish

    async def publish(channel: str, publication: Publication, *others: Any) -> Receipt:
        if bytes(publication.data) == b"first" and not gate.is_set():
            await gate.wait()
            raise unsent()
        return await inner(channel, publication, *others)

    desk.broker.publish = publish  # type: ignore[method-assign]
    first = desk.publish("first")
    await settle()
    desk.broker.failing = unsent
    second = desk.publish("second")
    await settle()
    gate.set()
    await settle()
    desk.broker.failing = None
    await asyncio.gather(first, second)
    assert desk.broker.published == ["first", "second"]


async def test_a_server_that_is_dead_holds_up_none_of_the_others() -> None:
    """Where channels are spread over several."""
    desk = Desk()
    desk.broker.failing, desk.broker.dead = unsent, "a"
    waiting = [desk.publish(f"{number}", channel=f"a{number}") for number in range(100)]
    await desk.attempts(101)
    assert desk.queue._timer is not None
    desk.queue._timer.cancel()  # nobody waits for a round
    others = [desk.publish(f"b{number}", channel="b") for number in range(3)]
    await settle()
    assert all(task.done() for task in others)
    assert desk.broker.published == ["b0", "b1", "b2"]
    assert not any(task.done() for task in waiting)


async def test_a_server_that_is_back_is_found_among_the_dead() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    dead = [desk.publish(f"{number}", channel=f"a{number}") for number in range(100)]
    back = [desk.publish(f"{number}", channel="b") for number in range(50)]
    await desk.attempts(160)
    desk.broker.dead = "a"
    await asyncio.gather(*back)
    assert desk.broker.published == [f"{number}" for number in range(50)]
    assert not any(task.done() for task in dead)
    desk.broker.failing = None
    await asyncio.gather(*dead)
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()


async def test_what_waits_while_the_broker_is_away_costs_little() -> None:
    """However many channels there are, only some of them are tried in a round."""
    desk = Desk()
    desk.broker.failing = unsent
    tasks = [desk.publish("x", channel=f"{number}") for number in range(1000)]
    await desk.attempts(1001)
    assert desk.queue._timer is not None
    desk.queue._timer.cancel()
    await settle()
    before = len(desk.broker.asked)
    desk.queue._probe()
    desk.queue._timer.cancel()
    await settle()
    assert len(desk.broker.asked) == before + module.PROBED
    desk.broker.failing = None
    desk.queue._probe()
    await asyncio.gather(*tasks)


async def test_one_who_leaves_disturbs_nobody() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    first, second, third = (desk.publish(text) for text in "abc")
    await settle()
    first.cancel()
    third.cancel()
    await settle()
    desk.broker.failing = None
    await second
    assert desk.broker.published == ["b"]
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()


async def test_the_time_of_one_who_left_is_over_for_nobody_else() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    first = desk.publish("a")
    await settle()
    desk.clock.now += 0.5
    second = desk.publish("b")
    await settle()
    first.cancel()
    await settle()
    desk.clock.now += 0.5
    await desk.attempts(len(desk.broker.asked) + 2)
    assert not second.done()
    desk.broker.failing = None
    await second


def one_round(desk: Desk) -> None:
    """Let some try, and then nobody but whom they let."""
    assert desk.queue._timer is not None
    desk.queue._timer.cancel()
    desk.queue._probe()
    desk.queue._timer.cancel()


async def test_what_the_broker_refuses_shows_that_it_is_back() -> None:
    desk = Desk()
    desk.broker.failing = unsent
    tasks = [desk.publish(f"{number}", channel=channel) for number in range(50) for channel in "ab"]
    await desk.attempts(102)
    desk.broker.failing = lambda: Error(ErrorCode.LIMIT_EXCEEDED)
    one_round(desk)
    await until(lambda: all(task.done() for task in tasks))
    assert {type(task.exception()) for task in tasks} == {Error}
    desk.broker.failing = None
    await desk.publish("at once")


@pytest.mark.parametrize("trying", [False, True])
async def test_who_leaves_when_its_turn_has_come_passes_it_on(trying: bool) -> None:
    desk = Desk()
    desk.broker.failing = unsent
    inner, reached = desk.broker.publish, asyncio.Event()

    async def publish(channel: str, publication: Publication, *rest: Any) -> Receipt:
        if desk.broker.failing is None and bytes(publication.data) == b"a":
            reached.set()
            await asyncio.Event().wait()
        return await inner(channel, publication, *rest)

    desk.broker.publish = publish  # type: ignore[method-assign]
    first, *others = [desk.publish(text) for text in "abcdef"]
    await desk.attempts(7)
    desk.broker.failing = None
    one_round(desk)
    if trying:
        await reached.wait()
    first.cancel()
    await until(lambda: all(task.done() for task in others))
    assert desk.broker.published == list("bcdef")
    assert reached.is_set() is trying


@pytest.mark.parametrize(("bound", "value"), [("MOST", 3), ("MOST_BYTES", 3)])
async def test_only_so_much_waits(monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    monkeypatch.setattr(module, bound, value)
    desk = Desk()
    desk.broker.failing = unsent
    tasks = [desk.publish(text) for text in "abcd"]
    assert await told(tasks[3]) == ("no", NOT_PUBLISHED)
    assert not any(task.done() for task in tasks[:3])
    desk.broker.failing = None
    await asyncio.gather(*tasks[:3])
    assert desk.broker.published == ["a", "b", "c"]
    await desk.publish("e")


# — with Redis —


@asynccontextmanager
async def joined(server: RedisServer, wait: float, io_timeout: float = 4.0) -> AsyncIterator[tuple[PublishQueue, Any]]:
    async with started_shard(server.url, io_timeout=io_timeout) as shard:
        broker = RedisBroker(shard)
        await broker.start("n1", Recorder())
        yield PublishQueue(broker, wait, Metrics()), broker
        await broker.close()


async def kept(broker: RedisBroker) -> list[str]:
    publications, _ = await broker.history("c", HistoryFilter(limit=-1), KEPT)
    return [bytes(each.data).decode() for each in publications]


def put(queue: PublishQueue, text: str, options: PublishOptions = PublishOptions()) -> "asyncio.Task[Receipt]":  # noqa: B008
    return asyncio.create_task(queue.publish("c", Publication(Payload(text.encode())), KEPT, options))


async def test_a_restart_of_redis_delays_publications_and_no_more() -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as own:
        async with joined(own, wait=30) as (queue, broker):
            tasks = [put(queue, "0")]
            await tasks[0]
            await asyncio.to_thread(own.stop)
            await until(lambda: not broker.health().connected)
            tasks += [put(queue, f"{number}") for number in range(1, 500)]
            await settle()
            await asyncio.to_thread(own.start)
            receipts = await asyncio.gather(*tasks)
            assert [receipt.offset for receipt in receipts] == list(range(1, 501))
            assert await kept(broker) == [f"{number}" for number in range(500)]


async def test_what_a_frozen_redis_does_not_answer_may_be_published() -> None:
    with RedisServer() as own:
        async with joined(own, wait=30, io_timeout=0.3) as (queue, broker):
            await put(queue, "before")
            own.pause()
            plain, keyed = put(queue, "plain"), put(queue, "keyed", KEYED)
            assert await told(plain) == ("maybe", PERHAPS_PUBLISHED)
            assert not keyed.done()
            own.resume()
            await keyed
            await put(queue, "keyed", KEYED)
            texts = await kept(broker)
            assert (texts[0], texts.count("keyed")) == ("before", 1), "though it was sent twice, and asked for thrice"


async def test_what_an_operator_must_see_to_fails_at_once(server: RedisServer) -> None:
    with RedisServer("--maxmemory", "1mb") as own:
        async with joined(own, wait=30) as (queue, broker):
            for stored in ("no", "no"):
                assert await told(put(queue, "x" * 100_000)) == (stored, NOT_PUBLISHED)
            assert broker.health().refusal == "OOM"


class Posting(Failing):
    """One that also takes what nobody waits for, and answers when the test does."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[None]] = []

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> asyncio.Future[None]:
        self.asked.append(bytes(publication.data).decode())
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    async def answer(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self.answers[number].set_result(None)
        else:
            self.answers[number].set_exception(error)
        await asyncio.sleep(0)


class PostDesk(Desk):
    def __init__(self) -> None:
        super().__init__()
        self.broker = self.posting = Posting()
        self.queue = PublishQueue(self.broker, 1.0, self.metrics, self.clock)
        self.told: list[tuple[str, Exception | None]] = []

    def post(self, text: str, channel: str = "c") -> bool:
        publication = Publication(Payload(text.encode()))
        return self.queue.post(channel, publication, KEPT, lambda error: self.told.append((text, error)))


async def test_who_does_not_wait_is_told() -> None:
    desk = PostDesk()
    assert desk.post("a")
    assert desk.told == []
    await desk.posting.answer(0)
    refused = ValueError("no")
    assert desk.post("b")
    await desk.posting.answer(1, refused)
    unknown = BrokerUnavailable("as it is")
    assert desk.post("c")
    await desk.posting.answer(2, unknown)
    assert desk.told == [("a", None), ("b", refused), ("c", unknown)]
    desk.assert_empty()


async def test_who_does_not_wait_is_told_what_may_have_been_published() -> None:
    desk = PostDesk()
    desk.post("a")
    await desk.posting.answer(0, unanswered())
    [(_, error)] = desk.told
    assert str(error) == str(failure(sent=True))
    assert desk.metrics.failed_publications == {"maybe": 1}
    assert desk.broker.asked == ["a"]


async def test_who_does_not_wait_is_told_of_an_answer_that_will_not_come() -> None:
    desk = PostDesk()
    desk.post("a")
    desk.posting.answers[0].cancel()
    await asyncio.sleep(0)
    [(_, error)] = desk.told
    assert str(error) == str(failure(sent=True))


async def test_what_nobody_waits_for_waits_for_the_broker_in_order() -> None:
    """By when it was asked for, not by when it was refused; and who comes meanwhile has to wait."""
    desk = PostDesk()
    desk.broker.failing = unsent
    assert desk.post("a")
    assert desk.post("b")
    later = desk.publish("c")
    await desk.attempts(3)
    for number in range(2):
        await desk.posting.answer(number, unsent())
    assert desk.told == []
    assert not desk.post("d")
    await desk.attempts(5)
    desk.broker.failing = None
    await later
    assert desk.broker.published == ["a", "b", "c"]
    assert desk.told == [("a", None), ("b", None)]
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()


async def test_what_nobody_waits_for_does_not_wait_for_ever() -> None:
    desk = PostDesk()
    desk.broker.failing = unsent
    desk.post("a")
    await desk.posting.answer(0, unsent())
    desk.clock.now += 1
    await until(lambda: desk.told)
    [(_, error)] = desk.told
    assert str(error) == str(failure(sent=False))
    desk.broker.refusal = "OOM"
    await until(lambda: desk.post("b"))
    await desk.posting.answer(1, unsent())
    assert [text for text, _ in desk.told] == ["a", "b"]
    assert desk.metrics.failed_publications == {"no": 2}
    await until(lambda: desk.queue._timer is None)
    desk.assert_empty()


async def test_an_answer_lets_those_try_who_wait() -> None:
    desk = PostDesk()
    desk.post("a", "d")
    desk.broker.failing = unsent
    waiting = desk.publish("b")
    await desk.attempts(2)
    desk.broker.failing = None
    assert desk.queue._timer is not None
    desk.queue._timer.cancel()  # so that nothing but the answer does
    await desk.posting.answer(0)
    await asyncio.wait_for(waiting, 10)
    assert desk.broker.published == ["b"]
