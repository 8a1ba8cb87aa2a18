"""``gateway``, as ever; on SIGUSR2 it writes how many tasks it has into the file that ``CHAOS_TASKS`` names."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

from gateway.serve.cli import main


def tell(_: int, __: FrameType | None) -> None:
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    path = Path(os.environ["CHAOS_TASKS"])
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(f"{count} {name}" for name, count in sorted(tasks.items())) + "\n")
    partial.rename(path)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, tell)
    main()
