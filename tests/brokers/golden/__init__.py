"""What the nodes of each release have written to Redis, byte by byte, for those of today to read.

``python -m tests.brokers.golden.record`` records what today's code writes, as the next file, if it differs from the
newest. A file is never changed and never removed: nodes of that release may run beside others for as long as a cluster
is being updated. `play` is what they do; it is only ever added to.
"""

import json
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.json"))


class Message(NamedTuple):
    """One that was published: what it is, on which pub/sub channel, and its bytes."""

    label: str
    channel: bytes
    data: bytes


class Key(NamedTuple):
    """A key, and the arguments of the command that makes it what it was."""

    name: bytes
    command: tuple[bytes, ...]


class Recording(NamedTuple):
    release: str
    server: bytes
    """The replication id of the Redis that it was written to, as far as streams note it."""
    messages: list[Message]
    keys: list[Key]


def load(path: Path) -> Recording:
    found = json.loads(path.read_text())
    messages = [Message(label, _bytes(channel), _bytes(data)) for label, channel, data in found["messages"]]
    keys = [Key(_bytes(name), tuple(map(_bytes, command))) for name, command in found["keys"]]
    return Recording(found["release"], _bytes(found["server"]), messages, keys)


def save(recording: Recording, path: Path) -> None:
    """As JSON in which a byte is a character (Latin-1), so that what can be read can be read."""
    messages = [[label, _text(channel), _text(data)] for label, channel, data in recording.messages]
    keys = [[_text(name), list(map(_text, command))] for name, command in recording.keys]
    found = {"release": recording.release, "server": _text(recording.server), "messages": messages, "keys": keys}
    path.write_text(json.dumps(found, indent=1) + "\n")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _text(data: bytes) -> str:
    return data.decode("latin-1")
