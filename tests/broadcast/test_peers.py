"""Who is on a line, by what is heard of them."""

import pytest

from gateway.broadcast.backends import Backing
from gateway.broadcast.line import Line
from gateway.broadcast.peers import ANSWER, GOODBYE, QUESTION, Peers
from gateway.config.settings import BroadcasterSettings
from tests.broadcast.fake import FakeBackend
from tests.broadcast.lines import started_line


async def test_who_has_said_goodbye_is_gone_whatever_comes_behind_it() -> None:
    line = Line(BroadcasterSettings(url="memory://"), lambda: Backing(FakeBackend()))
    peers = Peers(line, 2.5)
    await line.start()
    for uid in ("x", "y"):
        line.on_sender(uid)
    assert peers.others() == {"x", "y"}
    line.handlers[GOODBYE, ""](b"x")
    line.on_sender("x")
    assert peers.others() == {"y"}
    await line.close()


async def test_questions_and_answers_of_another_release_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with started_line("memory://") as (line, peers):
        peers.asked["kind"] = lambda data: data
        for garbage in (b"", b"x", b"\x94\x01\x02\x03\x04"):
            await line.publish(QUESTION, "", garbage)
            await line.publish(ANSWER, line.uid, garbage)
        await line.echo()
        assert "could not be taken in" not in caplog.text
        assert (await peers.ask("kind", b"1")).of == {line.uid: b"1"}
