"""What the system tells of this process."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from time import process_time

from msgspec import Struct

_PROC = Path("/proc/self")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(Struct, frozen=True):
    """None is what the system does not tell."""

    seconds: float
    """Of processor time."""
    resident: int | None = None
    """Bytes."""
    descriptors: int | None = None
    """Open files."""
    most: int | None = None
    """Open files that it may have; None for no limit."""


def read_process() -> Process:
    """As it is now. To be called in a thread: to count a hundred thousand files may take a tenth of a second."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resident = descriptors = None
    with suppress(OSError):  # there is no /proc
        resident = int((_PROC / "statm").read_text().split()[1]) * _PAGE
        # Linux tells their number from 6.2 on
        descriptors = (_PROC / "fd").stat().st_size or len(os.listdir(_PROC / "fd"))
    return Process(process_time(), resident, descriptors, None if most == resource.RLIM_INFINITY else most)
