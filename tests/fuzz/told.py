"""What a client is told, in either encoding: read, and held against the catalogue of what it may be told at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.errors import Disconnect, DisconnectCode, ErrorCode
from gateway.messages import Command, ConnectRequest, Pong, SendRequest, SubscribeRequest, UnsubscribeRequest
from gateway.protocols.base import WireProtocol
from tests.fuzz.streams import Streams
from tests.protocols.google import google, messages

RESULTS = {
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "refresh",
    "sub_refresh",
}
PUSHES = {"pub", "join", "leave", "unsubscribe", "message", "subscribe", "connect", "refresh"}
ERRORS = {int(code) for code in ErrorCode} - {ErrorCode.INTERNAL, ErrorCode.UNAUTHORIZED} | {1400}
CLOSES = {int(code) for code in DisconnectCode} - {
    DisconnectCode.INTERNAL,
    DisconnectCode.CONNECTION_CLOSED,
    DisconnectCode.WRITE_ERROR,
} | {1000, 4400}
"""1000 is for a client that stays after its connect was refused."""

REPLY, PUSH = google("Reply"), google("Push")


def read_json(frame: bytes) -> Iterator[dict[str, Any]]:
    for line in frame.decode().split("\n"):
        yield json.loads(line, parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def read_protobuf(frame: bytes, kind: Any = REPLY) -> Iterator[dict[str, Any]]:
    for data in messages(frame):
        message = kind.FromString(data)
        _check_known(message)
        yield MessageToDict(message, preserving_proto_field_name=True)


def _check_known(message: Any) -> None:
    """The proto file has every field."""
    assert not len(UnknownFieldSet(message)), f"unknown fields: {message}"
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            _check_known(value)
        elif not field.message_type.GetOptions().map_entry:
            for each in value:
                _check_known(each)
        elif field.message_type.fields_by_name["value"].message_type is not None:
            for each in value.values():
                _check_known(each)


class Told:
    """All messages of one session, and what has been asked for."""

    def __init__(self, protocol: WireProtocol) -> None:
        self._uni = protocol.unidirectional
        self._read: Callable[[bytes], Iterator[dict[str, Any]]] = read_json
        if protocol.binary:
            self._read = lambda frame: read_protobuf(frame, PUSH if self._uni else REPLY)
        self.reason: Disconnect | None = None
        self.kinds: Counter[str] = Counter()
        self._commands: list[Command] = []
        self._asked: Counter[int] = Counter()
        self._answered: Counter[int] = Counter()
        self._there: set[str] = set()
        self._streams = Streams(binary=protocol.binary)
        self._numbers: dict[int, str] = {}

    # — what the client asks —

    def asked(self, command: Command) -> None:
        if not isinstance(command.request, Pong | SendRequest):
            self._asked[command.id] += 1
            self._commands.append(command)

    def check_answered(self) -> None:
        """Each command had its answer."""
        if not self._uni:
            assert self._asked == self._answered, f"asked {self._asked}, answered {self._answered}"

    # — what it is told —

    def take(self, frame: bytes) -> bool:
        """Check a frame; whether there was a ping in it."""
        pinged = False
        for message in self._read(frame):
            if not message:
                pinged = True
            elif self._uni:
                self._push(message)
            elif "push" in message:
                assert message.keys() == {"push"}, message
                self._push(message["push"])
            else:
                self._reply(message)
        return pinged

    def closed(self, reason: Disconnect) -> None:
        if self.reason is None:
            self.reason = reason
            self.kinds[f"closed {reason.code}"] += 1
            uni = self._uni and reason.code == DisconnectCode.INTERNAL and not self.kinds["push connect"]
            assert reason.code in CLOSES or uni, f"closed: {reason}"
            assert reason.reason, reason

    def _reply(self, message: dict[str, Any]) -> None:
        number, body = message.get("id", 0), message.keys() - {"id"}
        assert number > 0, message
        self._answered[number] += 1
        assert self._answered[number] <= self._asked[number], f"answered too often: {message}"
        assert len(body) == 1, message
        [kind] = body
        if kind == "error":
            error = message["error"]
            self.kinds[f"error {error['code']}"] += 1
            assert error["code"] in ERRORS, message
            assert error["message"], message
            assert error.keys() <= {"code", "message", "temporary"}, message
        else:
            assert kind in RESULTS, message
            self.kinds[kind] += 1
            self._result(number, kind, message[kind])

    def _result(self, number: int, kind: str, result: dict[str, Any]) -> None:
        asked = [each.request for each in self._commands if each.id == number]
        channel = getattr(asked[0], "channel", "")
        if len(asked) != 1:  # who knows which one it is
            self._streams.end(names := [each.channel for each in asked if hasattr(each, "channel")])
            self._there.update(names)
        elif isinstance(asked[0], ConnectRequest):
            self._connected(result, asked[0])
        elif isinstance(asked[0], SubscribeRequest):
            self._streams.begin(channel, asked[0], result)
            if not result.get("phase"):
                self._there.add(channel)
        elif isinstance(asked[0], UnsubscribeRequest):
            self._end(channel)
        if "id" in result:
            self._numbers[int(result["id"])] = channel if len(asked) == 1 else ""
        if kind in ("connect", "subscribe", "refresh", "sub_refresh"):
            assert bool(result.get("expires")) == bool(result.get("ttl")), result

    def _end(self, channel: str) -> None:
        self._there.discard(channel)
        self._streams.end([channel])

    def _connected(self, result: dict[str, Any], request: ConnectRequest) -> None:
        assert result["client"], result
        assert result["version"], result
        for channel, each in result.get("subs", {}).items():
            self._there.add(channel)
            self._streams.begin(channel, request.subs.get(channel, SubscribeRequest()), each)

    def _push(self, push: dict[str, Any]) -> None:
        [kind] = push.keys() - {"channel", "id"}
        assert kind in PUSHES, push
        self.kinds[f"push {kind}"] += 1
        channel = push.get("channel", "")
        if "id" in push:
            channel = self._numbers[int(push["id"])]
        if kind in ("pub", "join", "leave"):
            assert channel in self._there or "id" in push, f"outside a subscription: {push}"
            if kind == "pub":
                self._streams.take(channel, push[kind])
        elif kind == "subscribe":
            if channel not in self._there:
                self._there.add(channel)
                self._streams.begin(channel, SubscribeRequest(), push[kind])
        elif kind == "unsubscribe":
            assert push[kind]["code"], push
            assert push[kind]["reason"], push
            self._end(channel)
        elif kind == "connect":
            assert self._uni, push
            [command] = self._commands
            assert isinstance(command.request, ConnectRequest)
            self._connected(push[kind], command.request)
