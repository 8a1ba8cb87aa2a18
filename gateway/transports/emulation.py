"""Emulation: commands of clients that hear by a response come by requests of their own, to any node of the cluster.

Source: Centrifuge protocol, "Emulation".
"""

import asyncio
import logging
from collections import deque
from enum import Enum

import msgspec
from msgspec import Struct

from gateway.core.node import Node
from gateway.errors import Disconnect, DisconnectCode
from gateway.session import FAIR, ClientSession, Session
from gateway.skipped import UNREADABLE, Skipped
from gateway.transports.raw import MESSAGE_COST

QUESTION = "emulation"
"""The kind of the question by which one node hands commands to another."""

log = logging.getLogger(__name__)

MOST = 1024 * 1024
"""Bytes of commands that wait for those before them, of one client: a browser has a few requests under way."""


class Outcome(Enum):
    """What has become of a client's commands."""

    TAKEN = b"taken"
    UNKNOWN = b"unknown"
    """There is no such session there, or none any more."""
    TOO_MANY = b"too many"
    """More wait than may; these are dropped."""
    NO_NODE = b"no node"
    FAILED = b"failed"
    """The node is alive, as far as anybody knows, and has not answered."""


class Commands(Struct):
    """What one node hands to another: JSON, in which bytes are base64."""

    session: str
    frame: bytes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Commands).decode


class Emulation:
    """The sessions of a node that are commanded so, and those of all other nodes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._upstreams: dict[str, Upstream] = {}
        self._skipped = Skipped("emulation")
        node.answers[QUESTION] = self._answer

    def open(self, session: ClientSession) -> None:
        self._upstreams[session.session_id] = Upstream(session)

    def close(self, session: Session) -> None:
        self._upstreams.pop(session.session_id, None)

    def take(self, session: str, frame: bytes) -> Outcome:
        """Hand commands to a session of this node. They are begun, or wait for those before them."""
        upstream = self._upstreams.get(session)
        if upstream is None:
            return Outcome.UNKNOWN
        return Outcome.TAKEN if upstream.take(frame) else Outcome.TOO_MANY

    def is_elsewhere(self, node: str) -> bool:
        """Whether that is another node which is alive: it is asked, and nobody for any other."""
        return node != self._node.uid and self._node.cluster.knows(node)

    async def hand(self, node: str, session: str, frame: bytes) -> Outcome:
        """Hand commands to a session of whichever node."""
        if node == self._node.uid:
            return self.take(session, frame)
        if not self.is_elsewhere(node):
            return Outcome.NO_NODE
        cluster = self._node.cluster
        told = await cluster.ask(QUESTION, _encode(Commands(session, frame)).decode(), node, Outcome)
        outcome: Outcome | None = told.answers.get(node)
        if outcome is None:
            return Outcome.FAILED if cluster.knows(node) else Outcome.NO_NODE
        return outcome

    async def _answer(self, argument: str) -> bytes:
        try:
            commands = _decode(argument)
        except UNREADABLE as error:
            self._skipped.add(error)
            return b""
        return self.take(commands.session, commands.frame).value


class Upstream:
    """What a client commands by requests of its own: carried out one after the other, in the order of their coming.

    There is no queue while nothing waits.
    """

    __slots__ = ("_session", "_size", "_waiting")

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._waiting: deque[bytes] | None = None
        """Frames behind the one that is being carried out; None while there is none."""
        self._size = 0
        """What they count for, in bytes."""

    def take(self, frame: bytes) -> bool:
        """Carry it out when its turn has come; False if too much waits already."""
        size = len(frame) + MESSAGE_COST
        if self._waiting is None:
            self._waiting = deque((frame,))
            self._size = size
            self._session.node.begin(self._carry_out(self._waiting))
            return True
        if self._size + size > MOST:
            return False
        self._waiting.append(frame)
        self._size += size
        return True

    async def _carry_out(self, waiting: deque[bytes]) -> None:
        session, count = self._session, 0
        try:
            while waiting:
                await session.transport.drained()  # the answers to more commands would only pile up
                frame = waiting.popleft()
                self._size -= len(frame) + MESSAGE_COST
                await session.receive(frame)
                count += 1
                if count % FAIR == 0:
                    await asyncio.sleep(0)
        except Exception:  # that no command answers for: a defect of ours
            log.exception("%s: a frame failed", str(session))
            session.disconnect(Disconnect(DisconnectCode.INTERNAL))
        finally:
            self._waiting = None
            self._size = 0
