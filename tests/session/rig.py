"""A node in memory under a clock of the test's own, and clients whose transport only writes down."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.auth.tokens import TokenVerifier, sign_connection, sign_subscription
from gateway.blocks.memory import MemoryBlocks
from gateway.brokers.base import Continued, HistoryFilter, Posted, PublishOptions, StreamOptions
from gateway.brokers.memory import MemoryBroker
from gateway.config.settings import Settings
from gateway.core.audience import Write
from gateway.core.cluster import ControlCommand
from gateway.core.node import Node
from gateway.core.wheel import Wheel
from gateway.errors import BrokerUnavailable, Disconnect
from gateway.maps.memory import MemoryMaps
from gateway.messages import ClientInfo, Payload, Position, Publication, Receipt
from gateway.presence.memory import MemoryPresence
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.session import ClientSession, Handshake, Session
from tests.waiting import until

SECRET = "a secret of more than thirty-two bytes, as all should be"
NOW = 1_800_000_000.0

HISTORY = {"history_size": 10, "history_ttl": 60}
OPEN: dict[str, Any] = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
WRITABLE: dict[str, Any] = {"allow_publish_for_client": True, "allow_publish_for_anonymous": True}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "closed"},
    {"name": "users", "allow_subscribe_for_client": True, **HISTORY, "presence": True},
    {"name": "named", **OPEN, "channel_regex": "^[a-z]+$"},
    {"name": "room", **OPEN, **WRITABLE, **HISTORY, "force_recovery": True},
    {"name": "watched", **OPEN, **HISTORY, "force_positioning": True},
    {"name": "asked", **OPEN, **HISTORY, "allow_recovery": True, "allow_positioning": True},
    {"name": "cell", **OPEN, **HISTORY, "force_recovery": True, "force_recovery_mode": "cache"},
    {"name": "cellpos", **OPEN, **HISTORY, "force_positioning": True, "force_recovery_mode": "cache"},
    {"name": "lobby", **OPEN, "presence": True, "join_leave": True, "force_push_join_leave": True},
    {"name": "quiet", **OPEN, "presence": True, "join_leave": True, "allow_presence_for_subscriber": True}
    | {"allow_presence_for_anonymous": True},
    {"name": "dm", "allow_user_limited_channels": True},
    {"name": "member", **OPEN, **HISTORY, "presence": True}
    | {f"allow_{what}_for_subscriber": True for what in ("publish", "presence", "history")},
    {"name": "any", **OPEN, **HISTORY, "presence": True}
    | {f"allow_{what}_for_client": True for what in ("publish", "presence", "history")},
    {"name": "objects", **OPEN, **WRITABLE, "publication_data_format": "json_object"},
    {"name": "binary", **OPEN, **WRITABLE, "publication_data_format": "binary"},
]


class Clock:
    def __init__(self) -> None:
        self._tenths = 0

    def __call__(self) -> float:
        return NOW + self._tenths / 10

    def tick(self) -> None:
        """A tenth of a second, like the wheel's; counted, for sums of it would drift."""
        self._tenths += 1


class Gate:
    """Where a call to the broker waits until the test opens it."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = asyncio.Event()

    async def pass_through(self) -> None:
        self.waiting += 1
        await self._open.wait()

    async def reached(self) -> None:
        await until(lambda: self.waiting, what="nobody has come to the gate")

    def open(self) -> None:
        self._open.set()


class Broker(MemoryBroker):
    """A memory broker that may wait or fail at a step: ``subscribe``, ``history``, ``read``, ``control``...

    ``history`` stands before the stream is read, ``read`` after it. ``former`` is where earlier epochs have ended.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.gates: dict[tuple[str, str], Gate] = {}
        self.faults: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()
        self.former: tuple[Position, ...] = ()

    def gate(self, step: str, channel: str) -> Gate:
        return self.gates.setdefault((step, channel), Gate())

    def down(self) -> None:
        steps = ("subscribe", "unsubscribe", "history", "publish", "join", "leave", "control")
        self.faults = dict.fromkeys(steps, BrokerUnavailable())

    @property
    def heard(self) -> set[str]:
        return self._channels

    async def _step(self, step: str, channel: str = "") -> None:
        self.calls[step] += 1
        gate = self.gates.get((step, channel))
        if gate is not None:
            await gate.pass_through()
        if step in self.faults:
            raise self.faults[step]

    async def subscribe(self, channel: str) -> None:
        await self._step("subscribe", channel)
        await super().subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self._step("unsubscribe", channel)
        await super().unsubscribe(channel)

    async def publish(
        self, channel: str, publication: Publication, stream: StreamOptions, options: PublishOptions
    ) -> Receipt:
        await self._step("publish", channel)
        return await super().publish(channel, publication, stream, options)

    def post(self, channel: str, publication: Publication, stream: StreamOptions) -> Posted:
        if "publish" in self.faults or ("publish", channel) in self.gates:
            return False
        self.calls["publish"] += 1
        return super().post(channel, publication, stream)

    async def echo(self) -> None:
        await self._step("echo")
        await super().echo()

    async def publish_join(self, channel: str, info: ClientInfo) -> None:
        await self._step("join", channel)
        await super().publish_join(channel, info)

    async def publish_leave(self, channel: str, info: ClientInfo) -> None:
        await self._step("leave", channel)
        await super().publish_leave(channel, info)

    async def history(
        self, channel: str, which: HistoryFilter, stream: StreamOptions
    ) -> tuple[list[Publication], Position]:
        await self._step("history", channel)
        publications, top = await super().history(channel, which, stream)
        await self._step("read", channel)
        return publications, Continued(top.offset, top.epoch, self.former) if self.former else top

    async def publish_control(self, data: bytes, node: str = "") -> None:
        await self._step("control")
        await super().publish_control(data, node)


class Presence(MemoryPresence):
    """A memory store whose next ``add`` and ``remove`` can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Exception] = []
        self.remove_faults: list[Exception] = []

    async def add(self, channel: str, info: ClientInfo) -> None:
        if self.faults:
            raise self.faults.pop()
        await super().add(channel, info)

    async def remove(self, channel: str, client: str) -> None:
        await super().remove(channel, client)
        if self.remove_faults:
            raise self.remove_faults.pop()

    @property
    def empty(self) -> bool:
        return not self._channels


class Recorder:
    """A transport that writes down what it is given, and, like any other, nothing after its close."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.reasons: list[Disconnect] = []
        self.is_behind = False

    @property
    def write(self) -> Write:
        return self.send

    def send(self, frame: bytes) -> None:
        if not self.reasons:
            self.frames.append(frame)

    def close(self, reason: Disconnect) -> None:
        self.reasons.append(reason)

    name = "recorder"

    def behind(self) -> bool:
        return self.is_behind

    def waiting(self) -> int:
        return sum(map(len, self.frames))

    async def drained(self) -> None:
        """Writing down takes no time."""


class Client:
    """What a client sees. Messages that are not the answer to ``ask`` stay in ``inbox``."""

    def __init__(self, rig: "Rig", handshake: Handshake) -> None:
        self.rig = rig
        self.transport = Recorder()
        self.session = ClientSession(rig.node, rig.tokens, rig.wire, self.transport, handshake)
        self.inbox: list[dict[str, Any]] = []
        self._last_id = 0

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason of the first close, which is the one that a client sees."""
        reasons = self.transport.reasons
        return (reasons[0].code, reasons[0].reason) if reasons else None

    async def say(self, *commands: dict[str, Any] | bytes) -> None:
        """Send one frame."""
        lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in commands]
        await self.session.receive(b"\n".join(lines))
        self.look()

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        """Send one command; its reply without the id."""
        self._last_id += 1
        await self.say({"id": self._last_id, kind: body})
        return self.reply(self._last_id)

    async def connect(self, **request: Any) -> dict[str, Any]:
        reply = await self.ask("connect", **request)
        assert "connect" in reply, reply
        result: dict[str, Any] = reply["connect"]
        return result

    async def subscribe(self, channel: str, **request: Any) -> dict[str, Any]:
        reply = await self.ask("subscribe", channel=channel, **request)
        assert "subscribe" in reply, reply
        result: dict[str, Any] = reply["subscribe"]
        return result

    async def refused(self, kind: str, **body: Any) -> int:
        """The code of the error that answers; the connection stays."""
        reply = await self.ask(kind, **body)
        assert self.closed is None
        code: int = reply["error"]["code"]
        return code

    def look(self) -> None:
        """Take what has been written since."""
        self.rig.node.hub.flush()
        frames, self.transport.frames = self.transport.frames, []
        self.inbox += [json.loads(line) for frame in frames for line in frame.split(b"\n")]

    def reply(self, command_id: int) -> dict[str, Any]:
        self.look()
        found = next((each for each in self.inbox if each.get("id") == command_id), None)
        assert found is not None, f"no reply: {self.closed}, {self.inbox}"
        self.inbox.remove(found)
        return {key: value for key, value in found.items() if key != "id"}

    def take(self) -> list[dict[str, Any]]:
        """All that is in the inbox, in order; pushes without their envelope."""
        self.look()
        taken, self.inbox = self.inbox, []
        return [each.get("push", each) for each in taken]

    def data(self) -> list[Any]:
        """Data of the publications in the inbox; anything else there is an error."""
        return [push["pub"]["data"] for push in self.take()]

    async def leave(self) -> None:
        await self.session.end()


class Rig:
    """A node and what it is made of. ``Rig.open`` makes one."""

    def __init__(self, client: dict[str, Any], channel: dict[str, Any], settings: Settings | None = None) -> None:
        """``settings`` take the place of the rest: they take far longer to read than all else to make."""
        self.clock = Clock()
        self.settings = settings or Settings(
            client={"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True} | client,
            channel={"namespaces": NAMESPACES, "without_namespace": OPEN | WRITABLE} | channel,
        )
        self.broker = Broker(self.clock)
        self.presence = Presence()
        self.maps = MemoryMaps(self.broker.deliver, self.clock)
        self.wheel = Wheel(self.clock)
        self.node = Node(
            self.settings,
            self.broker,
            self.presence,
            blocks=MemoryBlocks(self.clock),
            clock=self.clock,
            wheel=self.wheel,
            maps=self.maps,
        )
        self.tokens = TokenVerifier(self.settings.client, self.clock)
        self.wire = Wire(CentrifugeJson(), bytes)

    @classmethod
    async def open(cls, *, channel: dict[str, Any] | None = None, **client: Any) -> "Rig":
        rig = cls(client, channel or {})
        await rig.broker.start(rig.node.uid, rig.node)
        return rig

    def client(self, **headers: str) -> Client:
        return Client(self, Handshake(headers))

    async def connected(self, user: str = "", **request: Any) -> Client:
        client = self.client()
        if user:
            request["token"] = self.token(user)
        await client.connect(**request)
        return client

    def token(self, user: str = "alice", ttl: float = 0, **claims: Any) -> str:
        return sign_connection(claims.pop("key", SECRET), user, ttl, self.clock(), **claims)

    def channel_token(self, channel: str, user: str = "alice", ttl: float = 0, **claims: Any) -> str:
        return sign_subscription(claims.pop("key", SECRET), user, channel, ttl, self.clock(), **claims)

    async def publish(self, channel: str, *values: Any) -> Position:
        for value in values:
            publication = Publication(Payload(json.dumps(value).encode()))
            position = await self.node.publish(self.node.channels.resolve(channel), publication)
        return position

    async def position(self, channel: str) -> Position:
        resolved = self.node.channels.resolve(channel)
        _, top = await MemoryBroker.history(self.broker, channel, HistoryFilter(), self.node.stream(resolved))
        return top

    def control(self, command: ControlCommand) -> None:
        """A command of the server API."""
        self.node.apply(command)

    def pass_time(self, seconds: float) -> None:
        """Let the wheel turn tick by tick, as the event loop would."""
        for _ in range(round(seconds * 10)):
            self.clock.tick()
            self.wheel.turn()
        self.node.hub.flush()

    async def settle(self) -> None:
        """Wait for background work to end."""
        while tasks := self.node._work.running | self.node.feeds._closing.running:
            await asyncio.wait(tasks)
        self.node.hub.flush()

    async def assert_empty(self) -> None:
        """Nothing is left of anybody: not in the hub, not in presence, not at the broker."""
        await self.settle()
        self.pass_time(2)  # channels are heard a little longer
        await self.settle()
        assert self.node.hub.channels == {}
        assert self.node.hub.subscriptions == 0
        assert self.node.hub.connections == {}
        assert self.node.hub.users == {}
        assert self.presence.empty
        assert self.broker.heard == set()
        assert self.node.feeds._feeds == {}


@contextmanager
def nobody_kept() -> Iterator[None]:
    """No session of the block is left at its end, though no garbage collector comes by."""
    before = _sessions()
    gc.disable()
    try:
        yield
        assert [each for each in _sessions() if each not in before] == []
    finally:
        gc.enable()


def _sessions() -> list[Session]:
    return [each for each in gc.get_objects() if issubclass(type(each), Session)]  # a dead proxy has no class
