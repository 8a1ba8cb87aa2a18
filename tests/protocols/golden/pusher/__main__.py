"""Writes the transcripts anew: ``python -m tests.protocols.golden.pusher``. What has changed, the reader judges."""

import asyncio

from tests.protocols.golden.pusher import FOLDER, path_of
from tests.protocols.golden.pusher.scenes import SCENES
from tests.protocols.golden.pusher.stage import play


async def main() -> None:
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for scene in SCENES:
        path_of(scene.name).write_text(await play(scene))


if __name__ == "__main__":
    asyncio.run(main())
