"""The cluster: which nodes are alive, and what they tell each other."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from msgspec import Struct, field

from gateway.core.survey import MOST, ChannelCounts, Merge, Page, Question
from gateway.core.tasks import Tasks
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.messages import Payload, Position, pack, unpacker
from gateway.skipped import UNREADABLE, Skipped

log = logging.getLogger(__name__)

HEARTBEAT = 2.5
"""Seconds between a node's signs of life."""
SILENCE = 7.0
"""Seconds of silence after which a node counts as gone: two signs may be lost."""
REMEMBERED = 30.0
"""Seconds for which one is remembered that has not said goodbye: longer than it takes to find that it is we who are
deaf."""
SURVEY_TIMEOUT = 4.0
"""Seconds that a survey waits for a node that does not answer: one with a million channels may need two."""
ASKED_AT_ONCE = 16
"""Nodes that a survey waits for at a time: their answers are a megabyte, on its way with the publications."""


class NodeInfo(Struct, tag="info"):
    """What a node says of itself."""

    uid: str
    name: str
    version: str
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    uptime: int = 0
    group: str = ""
    """Of those that share a port. Other releases tell none, and count each node by itself."""
    full: bool = False
    """Whether it takes nobody more in."""


class Shutdown(Struct, tag="shutdown"):
    """The node leaves in good order."""

    uid: str


class Target(Struct, kw_only=True):
    """Which connections a command is for: all of a user's, narrowed by client or session.

    Without ``user``, the one with this client id, whoever it is.
    """

    user: str | None = None
    client: str = ""
    session: str = ""


class SubscribeUser(Target, tag="subscribe", kw_only=True):
    channel: str
    info: Payload | None = None
    data: Payload | None = None
    override: dict[str, bool] = field(default_factory=dict)
    expire_at: int = 0
    since: Position | None = None


class UnsubscribeUser(Target, tag="unsubscribe", kw_only=True):
    channel: str
    code: int
    reason: str


class DisconnectUser(Target, tag="disconnect", kw_only=True):
    code: int
    reason: str
    whitelist: list[str] = field(default_factory=list)
    before: tuple[float, str] | None = None
    """Only connections let in before this moment (Unix seconds), or at it with a lesser client id."""


def named(user: str | int | None) -> str:
    """The user's id. Nobody's connections are not one user's, and hardly what anybody means: ``ValueError``."""
    if user is None or not str(user):  # None by mistake: a block of "None" would be one of nobody
        raise ValueError("name a user, or a client: an empty user would mean all anonymous clients")
    return str(user)


def whose(user: str | int | None, client: str) -> str | None:
    """Whose connections are meant; None where the client says it all. Raises ``ValueError`` if neither is given."""
    return None if client and user in (None, "") else named(user)


def disconnection(user: str | int, client: str, reason: Disconnect, keep: Sequence[str]) -> DisconnectUser:
    """Closes a user's connections, or one of them. Raises ``ValueError`` for what cannot be said or meant."""
    reason.check()
    return DisconnectUser(
        user=whose(user, client), client=client, code=reason.code, reason=reason.reason, whitelist=list(keep)
    )


class SendMessage(Target, tag="message", kw_only=True):
    """A message to one client, in no channel."""

    data: Payload
    binary: bool = False


class RefreshUser(Target, tag="refresh", kw_only=True):
    expired: bool = False
    expire_at: int = 0
    info: Payload | None = None


class Answer(Struct, tag="answer"):
    """One page, as `survey.Page` has it."""

    id: str
    uid: str
    counts: dict[str, int]
    more: bool = False
    body: bytes = b""


class Told(NamedTuple):
    """What nodes have told, by their ids, and the names of those that have not."""

    answers: dict[str, Any]
    missing: list[str]


class Notice(Struct, tag="notice"):
    """Something that every node is told, and those that have to do with it act upon."""

    kind: str
    argument: str


ControlCommand = SubscribeUser | UnsubscribeUser | DisconnectUser | SendMessage | RefreshUser
_Body = NodeInfo | Shutdown | ControlCommand | Question | Answer | Notice


class _Envelope(Struct, array_like=True):
    version: int
    sender: str
    body: _Body


VERSION = 1


_decode = unpacker(_Envelope).decode


def seal(sender: str, body: _Body) -> bytes:
    """The control message as every node reads it, save the sender itself, if it names one."""
    return pack(_Envelope(VERSION, sender, body))


class ControlChannel(Protocol):
    """The part of a broker that the cluster uses."""

    async def publish_control(self, data: bytes, node: str = "") -> None: ...


class Local(Protocol):
    """What the cluster asks of its own node."""

    def describe(self) -> NodeInfo: ...

    def apply(self, command: ControlCommand) -> None: ...

    async def answer(self, question: Question) -> Page: ...


class Cluster:
    """Heartbeats, the registry made of them, and commands that reach a user on whichever node it is.

    Nodes are judged by when they were last heard here, so clocks may differ.
    """

    def __init__(
        self,
        uid: str,
        control: ControlChannel,
        local: Local,
        *,
        group: str = "",
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Without ``group`` the node shares its port with nobody."""
        self.uid = uid
        self.group = group or uid
        self._control = control
        self._local = local
        self._clock = clock
        self._pause = pause
        self._known: dict[str, tuple[float, NodeInfo]] = {}
        self._heard_at = clock()
        self._asked: dict[str, tuple[str, asyncio.Future[Page]]] = {}
        """Who is asked what just now, by the question's id."""
        self._task: asyncio.Task[None] | None = None
        self._sending = Tasks()
        self._skipped = Skipped("control")
        self.listeners: dict[str, Callable[[str], None]] = {}
        """What is called with the argument of a notice, by its kind."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Say goodbye, so that others need not wait to miss this node."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._try_send(Shutdown(self.uid))

    def nodes(self) -> list[NodeInfo]:
        """This node and those heard of lately."""
        now = self._clock()
        self._known = {uid: seen for uid, seen in self._known.items() if seen[0] > now - REMEMBERED}
        return [self._local.describe(), *(info for at, info in self._known.values() if at > now - SILENCE)]

    def knows(self, uid: str) -> bool:
        """Whether it is this node's id, or that of one heard of lately."""
        at, _ = self._known.get(uid, (-math.inf, None))
        return uid == self.uid or at > self._clock() - SILENCE

    def siblings(self) -> list[NodeInfo]:
        """The others that share a port with this node, and were heard of lately."""
        now = self._clock()
        return [info for at, info in self._known.values() if at > now - SILENCE and info.group == self.group]

    def company(self) -> list[str]:
        """The groups, in order, of this node and of those heard of in the last half minute and not since gone."""
        now = self._clock()
        known = {info.group or info.uid for at, info in self._known.values() if at > now - REMEMBERED}
        return sorted(known | {self.group})

    def silence(self) -> float:
        """Seconds since any other node was heard."""
        return self._clock() - self._heard_at

    async def command(self, command: ControlCommand) -> None:
        """Apply here and on every other node. Raises ``BrokerUnavailable`` if the others were not told."""
        self._local.apply(command)
        await self._send(command)

    async def command_in_turn(self, command: ControlCommand) -> None:
        """Apply on every node, this one too, behind what was handed to the broker before."""
        await self._control.publish_control(seal("", command))

    async def notify(self, kind: str, argument: str) -> None:
        """Tell every node, this one too. Raises ``BrokerUnavailable`` if the others were not told."""
        self._heed(kind, argument)
        await self._send(Notice(kind, argument))

    async def survey(self, kind: str, argument: str = "", after: str = "", limit: int = 0) -> ChannelCounts:
        """What all nodes have behind a name, added up: at most ``limit``, 0 for as many as there may be.

        Each tells a page at a time, to this node alone, and few of them at once. Says which have not answered.
        """
        names = {info.uid: info.name for info in self.nodes()}
        limit = min(limit or MOST, MOST)
        turns = asyncio.Semaphore(ASKED_AT_ONCE)
        survey = uuid.uuid4().hex

        async def ask(uid: str, after: str) -> Page | None:
            question = Question(uuid.uuid4().hex, self.uid, kind, argument, after, limit, survey)
            if uid == self.uid:
                return await self._local.answer(question)
            async with turns:
                return await self._ask(uid, question)

        merge = Merge(ask, names, after)
        found = await merge.take(limit)
        found.missing = [names[uid] for uid in merge.missing]
        if found.missing:
            log.warning("survey %s: no answer from %s", kind, ", ".join(found.missing))
        return found

    async def ask(self, kind: str, argument: str = "", only: str = "", read: Callable[[bytes], Any] = bytes) -> Told:
        """What every node, or ``only`` the one with this id, answers to a question of the kind: see `Node.answers`.

        One that is silent for four seconds, has gone, cannot be asked, knows no such question, or answers what ``read``
        cannot read is missing.
        """
        names = {info.uid: info.name for info in self.nodes() if only in ("", info.uid)}
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def one(uid: str) -> bytes:
            question = Question(uuid.uuid4().hex, self.uid, kind, argument)
            if uid == self.uid:
                return (await self._local.answer(question)).body
            page = None
            async with turns:
                with suppress(BrokerUnavailable):
                    page = await self._ask(uid, question)
            return page.body if page else b""

        bodies = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
        told = {}
        for uid, body in bodies.items():
            try:
                if body:
                    told[uid] = read(body)
            except UNREADABLE as error:
                self._skipped.add(error)
        gone = [only] if only and not names else []
        return Told(told, [names[uid] for uid in names if uid not in told] + gone)

    async def _ask(self, uid: str, question: Question) -> Page | None:
        """A node's answer, None if it gives none. Raises ``BrokerUnavailable`` if it could not be asked."""
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._asked[question.id] = uid, answer
        try:
            await self._send(question, uid)
            async with asyncio.timeout(SURVEY_TIMEOUT):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[question.id]

    def receive(self, data: bytes) -> None:
        """A control message has come from the broker."""
        try:
            envelope = _decode(data)
        except UNREADABLE as error:
            self._skipped.add(error)
            return
        if envelope.version != VERSION:
            self._skipped.add(f"unknown version {envelope.version}")
            return
        if envelope.sender == self.uid:
            return
        self._heard_at = self._clock()
        match envelope.body:
            case NodeInfo() as info:
                self._meet(info)
            case Shutdown(uid=uid):
                self._known.pop(uid, None)
                for question, (asked, _) in self._asked.items():
                    if asked == uid:  # its clients have gone before it
                        self._answered(question, Page({}))
            case Question() as question:
                self._sending.spawn(self._reply(question))
            case Answer() as answer:
                self._answered(answer.id, Page(answer.counts, answer.more, answer.body))
            case Notice(kind=kind, argument=argument):
                self._heed(kind, argument)
            case command:
                self._local.apply(command)

    def _answered(self, question: str, page: Page) -> None:
        _, waiting = self._asked.get(question, ("", None))
        if waiting is not None and not waiting.done():
            waiting.set_result(page)

    def _heed(self, kind: str, argument: str) -> None:
        listener = self.listeners.get(kind)
        if listener is not None:
            listener(argument)

    def _meet(self, info: NodeInfo) -> None:
        now = self._clock()
        before, _ = self._known.get(info.uid, (-SILENCE, info))
        self._known[info.uid] = (now, info)
        if before <= now - SILENCE:
            # it need not wait a heartbeat to know of us
            self._sending.spawn(self._try_send(self._local.describe(), info.uid))

    async def _reply(self, question: Question) -> None:
        page = await self._local.answer(question)
        answer = Answer(question.id, self.uid, page.counts, page.more, page.body)
        await self._try_send(answer, question.uid)

    async def _beat(self) -> None:
        while True:
            try:
                await self._try_send(self._local.describe())
            except Exception:  # a node that stops beating is taken for dead
                log.exception("no sign of life could be sent")
            await self._pause(HEARTBEAT)

    async def _send(self, body: _Body, node: str = "") -> None:
        await self._control.publish_control(seal(self.uid, body), node)

    async def _try_send(self, body: _Body, node: str = "") -> None:
        try:
            await self._send(body, node)
        except BrokerUnavailable as error:
            log.debug("control message not sent: %s", error)
