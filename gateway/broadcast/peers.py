"""The other nodes on a line: which of them live, and what they answer when they are asked."""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from msgspec import Struct

from gateway.broadcast.line import Line
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable
from gateway.messages import pack, unpacker

ANSWER_TIMEOUT = 2.0
"""Seconds that a question waits for nodes that do not answer."""

SILENCES = 3
"""Intervals between probes for which a node may be silent before it counts as gone."""

QUESTION, ANSWER, GOODBYE = "q", "a", "x"
"""Kinds of messages. An answer's name is that of who has asked."""

Asked = Callable[[bytes], bytes]
"""What this node answers to a question. Returns at once."""

logger = logging.getLogger(__name__)


class Question(Struct, array_like=True):
    id: str
    uid: str
    kind: str
    data: bytes


class Answer(Struct, array_like=True):
    id: str
    uid: str
    data: bytes


_read_question = unpacker(Question).decode
_read_answer = unpacker(Answer).decode


@dataclass
class Answers:
    """What each node has answered; ``missing`` are those that live and have not."""

    of: dict[str, bytes] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


class Peers:
    """Everybody on a line probes it, so that everybody knows who else does."""

    def __init__(self, line: Line, probe_interval: float) -> None:
        self.asked: dict[str, Asked] = {}
        """Who answers questions, by their kind."""
        self.line = line
        self._silence = SILENCES * probe_interval
        self._heard: dict[str, float] = {}
        self._gone: deque[str] = deque(maxlen=1000)
        """Who has said goodbye: a probe of theirs may still come behind it."""
        self._questions: dict[str, tuple[Answers, set[str], asyncio.Future[None]]] = {}
        self._work = Tasks()
        line.on_sender = self._meet
        line.handlers[QUESTION, ""] = self._question
        line.handlers[ANSWER, line.uid] = self._answer
        line.handlers[GOODBYE, ""] = self._goodbye

    def others(self) -> set[str]:
        """Nodes that have been heard of lately, without this one."""
        oldest = asyncio.get_running_loop().time() - self._silence
        self._heard = {uid: at for uid, at in self._heard.items() if at > oldest}
        return set(self._heard)

    async def ask(self, kind: str, data: bytes, without: set[str] | frozenset[str] = frozenset()) -> Answers:
        """What all nodes answer, this one too, but for those of whom nothing is expected any more.

        Raises ``BrokerUnavailable`` if they cannot be asked.
        """
        if not self.line.connected:
            raise BrokerUnavailable
        answers = Answers({self.line.uid: self.asked[kind](data)})
        waited_for = self.others() - without
        if not waited_for:
            return answers
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        question = Question(uuid.uuid4().hex, self.line.uid, kind, data)
        self._questions[question.id] = answers, waited_for, done
        try:
            await self.line.publish(QUESTION, "", pack(question))
            await asyncio.wait([done], timeout=ANSWER_TIMEOUT)
        finally:
            del self._questions[question.id]
        answers.missing = waited_for
        if waited_for:
            logger.warning("%s: no answer from %d of %d other nodes", kind, len(waited_for), len(self.others()))
        return answers

    async def leave(self) -> None:
        """Say goodbye, so that nobody waits for this node."""
        try:
            await self.line.publish(GOODBYE, "", self.line.uid.encode())
        except BrokerUnavailable:
            logger.debug("the others will miss this node")

    def _meet(self, uid: str) -> None:
        if uid not in self._heard:
            if uid in self._gone:
                return
            self._work.spawn(self._quietly(self.line.probe()))  # it need not wait to know of us
        self._heard[uid] = asyncio.get_running_loop().time()

    def _goodbye(self, data: bytes) -> None:
        uid = data.decode(errors="replace")
        self._heard.pop(uid, None)
        self._gone.append(uid)
        for _, waited_for, done in self._questions.values():
            waited_for.discard(uid)
            if not waited_for and not done.done():
                done.set_result(None)

    def _question(self, data: bytes) -> None:
        question = _read_question(data)
        answer = self.asked.get(question.kind)
        if question.uid != self.line.uid and answer is not None:
            reply = Answer(question.id, self.line.uid, answer(question.data))
            self._work.spawn(self._quietly(self.line.publish(ANSWER, question.uid, pack(reply))))

    def _answer(self, data: bytes) -> None:
        answer = _read_answer(data)
        answers, waited_for, done = self._questions.get(answer.id, (None, set[str](), None))
        if answers is None or done is None:
            return  # it comes too late
        answers.of[answer.uid] = answer.data
        waited_for.discard(answer.uid)
        if not waited_for and not done.done():
            done.set_result(None)

    async def _quietly(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except BrokerUnavailable as error:
            logger.debug("not sent: %s", error)
