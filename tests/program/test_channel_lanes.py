"""Events of one channel take turns."""

import asyncio

import pytest

from gateway.core.tasks import Tasks
from gateway.program.channel_lanes import ChannelLanes
from tests.waiting import settle


class Program:
    """Takes its time over each event."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = asyncio.Semaphore(0)
        self.tasks = Tasks()
        self.lanes = ChannelLanes(self.call, self.tasks.spawn)

    async def call(self, channel: str, event: str) -> None:
        self.log.append(f"{event}{channel}")
        await self.gate.acquire()
        self.log.append(f"({event}{channel})")
        if channel == "broken":
            raise ZeroDivisionError

    async def go_on(self, times: int = 1) -> None:
        for _ in range(times):
            self.gate.release()
            await settle()


async def test_the_next_event_waits_for_the_one_before() -> None:
    program = Program()
    program.lanes.tell("a", "+")
    program.lanes.tell("a", "-")
    program.lanes.tell("b", "+")
    await settle()
    assert program.log == ["+a", "+b"]
    await program.go_on(3)
    assert program.log == ["+a", "+b", "(+a)", "-a", "(+b)", "(-a)"]
    program.lanes.tell("a", "+")
    await program.go_on()
    assert program.log[-2:] == ["+a", "(+a)"]
    assert not program.tasks.running


async def test_what_changes_and_changes_back_is_no_news() -> None:
    program = Program()
    for event in "+-+-+":
        program.lanes.tell("a", event)
        await settle()
    await program.go_on(5)
    assert program.log == ["+a", "(+a)"]
    assert not program.tasks.running


async def test_the_first_of_what_comes_together_is_told_too() -> None:
    program = Program()
    program.lanes.tell("a", "-")
    program.lanes.tell("a", "+")
    await program.go_on(2)
    assert program.log == ["-a", "(-a)", "+a", "(+a)"]


async def test_a_failure_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    program = Program()
    program.lanes.tell("broken", "+")
    program.lanes.tell("broken", "-")
    await program.go_on(2)
    assert program.log == ["+broken", "(+broken)", "-broken", "(-broken)"]
    assert [record.message for record in caplog.records] == ["telling of an event of broken failed"] * 2


async def test_waiting_until_nothing_is_told() -> None:
    program = Program()
    await program.lanes.idle("a")
    program.lanes.tell("a", "+")
    program.lanes.tell("a", "-")
    waiting = asyncio.ensure_future(program.lanes.idle("a"))
    await program.go_on()
    assert not waiting.done()
    await program.go_on()
    assert waiting.done()
    program.lanes.tell("a", "+")
    given_up = asyncio.ensure_future(program.lanes.idle("a"))
    await settle()
    given_up.cancel()
    await program.go_on()
    assert not program.tasks.running
