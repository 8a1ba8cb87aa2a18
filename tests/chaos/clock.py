"""A wall clock that jumps, for one process: libfaketime, which reads the offset from a file."""

from pathlib import Path

PLACES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")


def library() -> Path | None:
    """Where libfaketime is, if it is installed."""
    return next((found for place in PLACES for found in Path("/").glob(place[1:])), None)


class Clock:
    """Start a process in its ``environment``; then ``jump`` takes effect within a second. Monotonic time stays true."""

    def __init__(self, file: Path) -> None:
        path = library()
        if path is None:
            raise RuntimeError("the tests need libfaketime: apt-get install libfaketime")
        self._file = file
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(path),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}\n")
        partial.rename(self._file)
