"""Records what today's code writes: ``python -m tests.brokers.golden.record``."""

import asyncio
import re

from tests.brokers.golden import FILES, FOLDER, Recording, load, save
from tests.brokers.golden.play import record
from tests.redis_server import RedisServer

_HEAD = re.compile(rb"^(\d+[pmr]\d+):[^:]*:")


def shape(recording: Recording) -> list[object]:
    """What is the same each time: all but epochs, names of leases and times."""
    messages = [(label, channel, _HEAD.sub(rb"\1::", data)) for label, channel, data in recording.messages]
    keys = []
    for name, (verb, _, *arguments) in recording.keys:
        fields = arguments[::2] if verb == b"HSET" else arguments[1::2] if verb == b"XADD" else []
        keys.append((name, verb, *fields))
    return [*messages, *keys]


def main() -> None:
    with RedisServer() as server:
        recording = asyncio.run(record(server))
    if FILES and shape(load(FILES[-1])) == shape(recording):
        print(f"{FILES[-1].name} has it all")
        return
    path = FOLDER / f"{len(FILES) + 1:03}.json"
    save(recording, path)
    print(f"{path.name}: {len(recording.messages)} messages, {len(recording.keys)} keys of release {recording.release}")


if __name__ == "__main__":
    main()
