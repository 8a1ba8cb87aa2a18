"""Plays a scene on a wire and writes down every frame: with ids, clock, tokens and epochs that are always the same."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

from google.protobuf.descriptor import FieldDescriptor

from gateway.config.settings import Settings
from gateway.core.poll_values import Value
from gateway.errors import Disconnect
from gateway.protocols.base import Wire
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.protocols.centrifuge_protobuf_uni import CentrifugeProtobufUni
from gateway.protocols.protobuf import delimited
from gateway.transports.stream import StreamWire
from gateway.transports.stream_kinds import HTTP_STREAM, SSE, UNI_HTTP_STREAM, UNI_SSE
from tests.fuzz.ground import Ground, Loop
from tests.fuzz.options import TOKENS
from tests.protocols.golden import shown
from tests.protocols.google import google

VERSION = "1.0.0"
"""Of the server, in what is written down."""

WIRES: dict[str, Callable[[], Wire]] = {
    "json": lambda: Wire(CentrifugeJson(), bytes),
    "protobuf": lambda: Wire(CentrifugeProtobuf(), bytes),
    "http_stream-json": lambda: StreamWire(HTTP_STREAM, CentrifugeJson(), direct=False),
    "http_stream-protobuf": lambda: StreamWire(HTTP_STREAM, CentrifugeProtobuf(), direct=False),
    "sse": lambda: StreamWire(SSE, CentrifugeJson(), direct=False),
    "uni_websocket-json": lambda: Wire(CentrifugeJsonUni(), bytes),
    "uni_websocket-protobuf": lambda: Wire(CentrifugeProtobufUni(), bytes),
    "uni_http_stream-json": lambda: StreamWire(UNI_HTTP_STREAM, CentrifugeJsonUni(), direct=False),
    "uni_http_stream-protobuf": lambda: StreamWire(UNI_HTTP_STREAM, CentrifugeProtobufUni(), direct=False),
    "uni_sse": lambda: StreamWire(UNI_SSE, CentrifugeJsonUni(), direct=False),
}

Words = dict[str, Any]
"""A command as JSON has it, with or without id. ``@`` stands for the channel's epoch, words of `TOKENS` for tokens."""


class Act(NamedTuple):
    """What others do, and time."""

    text: str
    do: Callable[["Stage"], Awaitable[object]]


Step = Words | list[Words] | bytes | Act


class Scene(NamedTuple):
    name: str
    title: str
    steps: Sequence[Step]
    wires: Sequence[str] = ("json", "protobuf")
    program: bool = False


class Stage(Ground):
    """Where one scene is played."""

    def __init__(self, loop: Loop, wire: Wire, settings: Settings, *, program: bool) -> None:
        super().__init__(loop, wire, settings, program=program)
        self.lines: list[str] = []
        self.values: list[Value] = []
        """What the backend of polls answers next."""
        self._last_id = 0
        if isinstance(wire, StreamWire) and wire.kind.opening:
            self._write("<", wire.kind.opening)

    def _write(self, mark: str, frame: bytes) -> None:
        self.lines.append(f"{mark} {shown(frame, binary=self.wire.protocol.binary)}".rstrip())

    def look(self) -> None:
        self.node.hub.flush()
        frames, self.transport.frames = self.transport.frames, []
        for frame in frames:
            self._write("<", frame)
        if self.transport.reasons and not self.lines[-1].startswith("!"):
            self._farewell(self.transport.reasons[0])
        assert not self.failures.texts, self.failures.texts

    def _farewell(self, reason: Disconnect) -> None:
        protocol: Any = self.wire.protocol
        if isinstance(self.wire, StreamWire):
            self._write("<", self.wire.farewell(reason))
            self.lines.append("! end of the response")
        else:
            if protocol.unidirectional:
                self._write("<", protocol.encode_disconnect(reason))
            self.lines.append(f"! {reason.code} {reason.reason}")

    async def fetch(self, _proxy: str, _channel: str, keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
        asked = ", ".join(f"{key} of version {version}" if version else key for key, version in keys)
        self.lines.append(f"* the backend is asked for {asked}")
        values, self.values = self.values, []
        return values, ""

    async def take(self, step: Step) -> None:
        if isinstance(step, Act):
            self.lines.append(f"* {step.text}")
            await step.do(self)
        else:
            frame = step if isinstance(step, bytes) else self._frame(step if isinstance(step, list) else [step])
            self._write(">", frame)
            await self.say(frame)
        await self.quiet()

    def _frame(self, commands: list[Words]) -> bytes:
        protocol = self.wire.protocol
        whole = [self._numbered(each) for each in commands]
        if protocol.unidirectional:
            request = whole[0]["connect"]
            return written(google("ConnectRequest"), request) if protocol.binary else in_json(request)
        if protocol.binary:
            return b"".join(delimited(written(google("Command"), each)) for each in whole)
        return b"\n".join(map(in_json, whole))

    def _numbered(self, command: Words) -> Words:
        if not command:  # a pong
            return command
        [*rest, kind] = command
        if not rest and kind != "send":
            self._last_id += 1
            command = {"id": self._last_id, **command}
        words: Words = self._spelled(command, command[kind].get("channel", ""))
        return words

    def _spelled(self, value: Any, channel: str) -> Any:
        """The same with tokens and epochs where a word stands for one."""
        if isinstance(value, dict):
            return {
                key: self._spelled(each, key if "#" in key or ":" in key else channel) for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._spelled(each, channel) for each in value]
        return self.epoch(channel) if value == "@" else TOKENS.get(value, value) if isinstance(value, str) else value

    def check_answered(self) -> None:
        """The transcript says it."""


def in_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def written(kind: Any, words: Words) -> bytes:
    """A message as google's runtime writes it. Payloads are JSON."""
    data: bytes = _message(kind, words).SerializeToString(deterministic=True)
    return data


def _message(kind: Any, words: Words) -> Any:
    message = kind()
    for name, value in words.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        there = getattr(message, name)
        if field.message_type is None:
            if field.is_repeated:
                there.extend(value)
            else:
                setattr(message, name, in_json(value) if field.type == FieldDescriptor.TYPE_BYTES else value)
        elif field.message_type.GetOptions().map_entry:
            for key, each in value.items():
                if isinstance(each, dict):
                    there[key].CopyFrom(_message(type(there[key]), each))
                else:
                    there[key] = each
        elif field.is_repeated:
            there.extend(_message(google(field.message_type.name), each) for each in value)
        else:
            there.CopyFrom(_message(type(there), value))
            there.SetInParent()
    return message


async def play(loop: Loop, scene: Scene, wire: str, settings: Settings) -> str:
    """The scene's transcript on a wire."""
    with (
        patch("gateway.session.connecting.__version__", VERSION),
        patch("gateway.session.refreshing.__version__", VERSION),
    ):
        stage = Stage(loop, WIRES[wire](), settings, program=scene.program)
        await stage.open()
        try:
            for step in scene.steps:
                await stage.take(step)
            transcript = "\n".join([f"# {scene.title}", *stage.lines, ""])
        finally:
            await stage.end()
    return transcript
