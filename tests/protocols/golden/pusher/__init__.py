"""Transcripts of the Pusher protocol: its description's own exchanges, and some more, between whole parties.

A line begins with who it is, ``A`` being the app's backend. Behind that stands ``>`` before what is sent to the
gateway, ``<`` before what comes of it, ``!`` before how a connection is closed; ``*`` is what happens otherwise, ``#``
what it is about. Requests are without what signs them.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def path_of(scene: str) -> Path:
    return FOLDER / f"{scene}.txt"
