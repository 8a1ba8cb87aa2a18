"""A session in a node of memory, at which bytes are thrown: what it says to them is checked message by message."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from gateway.auth.tracking import sign_keys
from gateway.config.settings import Settings
from gateway.core.poll_values import Value
from gateway.errors import Disconnect, Error, ErrorCode
from gateway.messages import (
    Command,
    ConnectRequest,
    Payload,
    Position,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.centrifuge_protobuf_uni import CentrifugeProtobufUni
from gateway.session import NO_APPLICATION, ClientSession, Handshake, NoApplication, Session
from tests.fuzz.options import SETTINGS, TOKENS
from tests.fuzz.told import Told
from tests.session.rig import NOW, SECRET, Recorder, Rig

PROTOCOLS: tuple[tuple[type[Any], bool], ...] = (
    (CentrifugeJson, False),
    (CentrifugeProtobuf, False),
    (CentrifugeJson, True),
    (CentrifugeProtobuf, True),
    (CentrifugeJsonUni, False),
    (CentrifugeProtobufUni, False),
)
"""Each wire: its protocol, and whether commands come by requests of their own."""

PROGRAM = 132
"""Added to the number of a wire: a program answers calls, and commands are carried out beside each other."""

NEVER = 10_000
"""Turns of the event loop that nothing here takes."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time goes on only where a scene says so."""

    now = 0.0

    def time(self) -> float:
        return self.now

    @property
    def busy(self) -> bool:
        return bool(self._ready)  # type: ignore[attr-defined]


class Failures(logging.Handler):
    """What is logged as an error, and what the event loop complains of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.texts.append(f"{context['message']}: {context.get('exception')!r}")


class Program(NoApplication):
    """One that answers calls."""

    async def rpc(self, _session: Session, request: RPCRequest) -> Payload | None:  # type: ignore[override]
        if request.method == "echo":
            return Payload(request.data) or None
        if request.method == "refuse":
            raise Error(1400, "no")
        if request.method == "leave":
            raise Disconnect(4400, "go")
        raise Error(ErrorCode.METHOD_NOT_FOUND)


class Ground:
    """One scene: a client under test, another one, and the server's API."""

    def __init__(self, loop: Loop, wire: Wire, settings: Settings = SETTINGS, *, program: bool = False) -> None:
        random.seed(1)  # epochs are random
        self.loop = loop
        self.failures = Failures()
        self.rig = rig = Rig({}, {}, settings)
        self.node = rig.node
        self.node.uid = "node-1"
        self.node.polls.fetch = self.fetch
        self.program = Program() if program else NO_APPLICATION
        self.wire, protocol = wire, wire.protocol
        decode: Callable[..., list[Command]] = protocol.decode

        def completed(frame: bytes, *, admitted: bool = True) -> list[Command]:
            return self._complete(decode(frame, admitted=admitted))

        protocol.decode = completed  # type: ignore[method-assign]
        self.transport = Recorder()
        self.session = self._open(self.wire, self.transport, "c1")
        self.other_transport = Recorder()
        self.other = self._open(rig.wire, self.other_transport, "c2")
        self.told = Told(protocol)
        self.versions = 0
        self._took = 0

    def _open(self, wire: Wire, transport: Recorder, name: str) -> ClientSession:
        session = ClientSession(self.node, self.rig.tokens, wire, transport, Handshake(), self.program)
        session.client = f"00000000-0000-4000-8000-0000000000{name}"
        session.session_id = session.session_id and f"session-{name}"
        return session

    # — what a command stands for —

    def _complete(self, commands: list[Command]) -> list[Command]:
        """Put tokens, signatures and epochs where a command has a word for them, and note what is asked."""
        for command in commands:
            request: Any = command.request
            if token := TOKENS.get(getattr(request, "token", "")):
                request.token = token
            match request:
                case SubscribeRequest():
                    self._place(request)
                case ConnectRequest():
                    for name, sub in request.subs.items():
                        self._place(sub, name)
                case SubRefreshRequest():
                    for batch in request.track:
                        if batch.signature == "@":
                            keys = [item.key for item in batch.items]
                            with suppress(UnicodeEncodeError):
                                batch.signature = sign_keys(
                                    SECRET, int(NOW), int(NOW) + 60, self.session.user, request.channel, keys
                                )
            since = getattr(request, "since", None)
            if type(since) is Position and since.epoch == "@":
                request.since = replace(since, epoch=self.epoch(request.channel))
            self.told.asked(command)
        return commands

    def _place(self, request: SubscribeRequest, name: str = "") -> None:
        if request.epoch == "@":
            request.epoch = self.epoch(name or request.channel)
        if token := TOKENS.get(request.token):
            request.token = token

    def epoch(self, channel: str) -> str:
        if (kept := self.rig.maps._maps.get(channel)) is not None:
            return kept.epoch
        if (stream := self.rig.broker._streams.get(channel)) is not None:
            return stream.epoch
        with suppress(UnicodeEncodeError):
            return self.rig.broker._next_epoch(channel)
        return ""

    async def fetch(self, _proxy: str, _channel: str, keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
        """A backend of polls, whose values are new each time; keys of some names are gone."""
        self.versions += 1
        values = [
            Value(key, Payload(b'{"n":%d}' % self.versions), self.versions, removed=key.startswith("x"))
            for key, _ in keys
        ]
        return values, "" if self.versions < 20 else "later"

    # — steps —

    async def open(self) -> None:
        logging.getLogger("gateway").addHandler(self.failures)
        self.loop.set_exception_handler(self.failures.complain)
        await self.rig.broker.start(self.node.uid, self.node)
        self.node.maps.start()
        await self.other.receive(b'{"id":1,"connect":{"token":"%b"}}' % TOKENS["@bob"].encode())

    async def quiet(self) -> None:
        """Wait until nothing can go on without time."""
        for _ in range(NEVER):
            await asyncio.sleep(0)
            if not self.loop.busy:
                self.look()
                return
        raise AssertionError("it never ends")

    async def say(self, frame: bytes) -> None:
        """A frame of the client under test; what comes of it before the next."""
        unheard = self.wire.protocol.unidirectional and self._took
        if self.transport.reasons or unheard:
            return
        self._took += 1
        task = self.loop.create_task(self.session.receive(frame))
        await self.quiet()
        if not task.done():
            task.cancel()
            raise AssertionError("the session never comes back from a frame")
        task.result()

    async def pass_time(self, tenths: int) -> None:
        """A second at a time, or less: finer steps cost more than they find."""
        while tenths > 0:
            step = min(tenths, 10)
            tenths -= step
            for _ in range(step):
                self.rig.clock.tick()
            self.loop.now += step / 10
            self.rig.wheel.turn()
            await self.quiet()

    async def end(self) -> None:
        """The clients go, and nothing is left of them."""
        try:
            self.check_answered()
            await self.session.end()
            await self.other.end()
            await self.quiet()
            await self.pass_time(50)  # what is heard or polled for nobody any more, lasts a little longer
            await self._check_empty()
        finally:
            await self.node.polls.stop()
            logging.getLogger("gateway").removeHandler(self.failures)

    # — checks —

    def look(self) -> None:
        self.node.hub.flush()
        frames, self.transport.frames = self.transport.frames, []
        for frame in frames:
            if self.told.take(frame) and not self.wire.protocol.unidirectional and self.session.awaits_pong is not None:
                self.session.pong()
        self.other_transport.frames.clear()
        if self.transport.reasons:
            self.told.closed(self.transport.reasons[0])
        if self.failures.texts:
            raise AssertionError("logged: " + self.failures.texts[0])

    def check_answered(self) -> None:
        if not self.session.closed:
            self.told.check_answered()

    async def _check_empty(self) -> None:
        hub, feeds = self.node.hub, self.node.feeds
        left: dict[str, Any] = {
            "channels": hub.channels,
            "subscriptions": hub.subscriptions,
            "connections": hub.connections,
            "users": hub.users,
            "presence": self.rig.presence._channels,
            "broker": self.rig.broker.heard,
            "feeds": feeds._feeds,
            "polls": self.node.polls._of,
            "present clients": self.node.map_presence._clients,
            "present users": self.node.map_presence._users,
            "subscriptions of the session": self.session.subscriptions,
            "ending": self.session.ending,
        }
        if found := {name: what for name, what in left.items() if what}:
            raise AssertionError(f"left: {found}")
