"""Servers in processes, which end with their test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.processes import Process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*args: Any, **kwargs: Any) -> Process:
        processes.append(Process(tmp_path / f"{len(processes)}.log", *args, **kwargs))
        return processes[-1]

    yield start
    for process in processes:
        if process.popen.poll() is None:
            process.popen.terminate()
            process.popen.terminate()
            process.popen.wait(20)
