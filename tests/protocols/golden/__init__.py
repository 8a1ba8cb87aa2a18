"""Transcripts, bytes in and bytes out, of every command and push, on every wire.

A line is a frame, or what happens otherwise: ``>`` from the client, ``<`` to it, ``!`` how it is closed, ``*`` what
others do, ``#`` what it is about. Frames of text have ``␊`` and ``␍`` for ends of lines; bytes are in hexadecimal.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
_SHOWN = str.maketrans("\n\r", "␊␍")
_HIDDEN = str.maketrans("␊␍", "\n\r")


def path_of(scene: str, wire: str) -> Path:
    return FOLDER / f"{scene}.{wire}.txt"


def shown(frame: bytes, *, binary: bool) -> str:
    return frame.hex() if binary else frame.decode().translate(_SHOWN)


def hidden(text: str, *, binary: bool) -> bytes:
    """The frame that is shown so."""
    return bytes.fromhex(text) if binary else text.translate(_HIDDEN).encode()


def frames(transcript: str, mark: str, *, binary: bool) -> list[bytes]:
    """Those of a direction, ``>`` or ``<``."""
    lines = transcript.splitlines()
    return [hidden(line[2:], binary=binary) for line in lines if line.startswith(f"{mark} ") or line == mark]
