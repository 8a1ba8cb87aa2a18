"""Writes the transcripts anew: ``python -m tests.protocols.golden``. What has changed is for the reader to judge."""

from tests.fuzz.ground import Loop
from tests.protocols.golden import FOLDER, path_of
from tests.protocols.golden.scenes import SCENES, SETTINGS
from tests.protocols.golden.stage import play


def main() -> None:
    loop = Loop()
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for scene in SCENES:
        for wire in scene.wires:
            path_of(scene.name, wire).write_text(loop.run_until_complete(play(loop, scene, wire, SETTINGS)))


if __name__ == "__main__":
    main()
