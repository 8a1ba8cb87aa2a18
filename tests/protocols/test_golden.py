"""What sessions say, byte for byte, and in Protobuf what google's runtime reads in it.

``python -m tests.protocols.golden`` writes the transcripts anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.ground import Loop
from tests.fuzz.told import PUSHES, RESULTS, read_json
from tests.protocols.golden import FOLDER, frames, hidden, path_of, shown
from tests.protocols.golden.scenes import SCENES, SETTINGS
from tests.protocols.golden.stage import Scene, play
from tests.protocols.google import google, messages

PLAYED = [(scene, wire) for scene in SCENES for wire in scene.wires]
DIFFERENT = ("garbage", "binary", "number", "get_state")
"""Scenes that are not the same in both encodings: payloads that are no JSON, and numbers that only JSON clients get."""
PAIRS = [
    (path_of(scene.name, wire), path_of(scene.name, wire.replace("json", "protobuf")))
    for scene, wire in PLAYED
    if wire.endswith("json") and scene.name not in DIFFERENT
]
"""Transcripts of the others in both."""


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.mark.parametrize(("scene", "wire"), PLAYED, ids=lambda value: getattr(value, "name", value))
def test_transcripts(loop: Loop, scene: Scene, wire: str) -> None:
    assert loop.run_until_complete(play(loop, scene, wire, SETTINGS)) == path_of(scene.name, wire).read_text()


def test_there_are_no_others() -> None:
    assert {*FOLDER.glob("*.txt")} == {path_of(scene.name, wire) for scene, wire in PLAYED}


def test_every_command_and_push_is_there() -> None:
    asked: set[str] = set()
    told: set[str] = set()
    for path in FOLDER.glob("*json.txt"):
        said = frames(path.read_text(), ">", binary=False)
        asked.update(key for frame in said if frame != b"garbage" for each in read_json(frame) for key in each)
        for frame in frames(path.read_text(), "<", binary=False):
            for each in read_json(frame.rstrip(b"\n")):
                told.update(each, each.get("push", ()))
    assert asked >= RESULTS | {"ping", "send"}
    assert told >= RESULTS | PUSHES | {"disconnect", "error"}


@pytest.mark.parametrize(("in_json", "in_protobuf"), PAIRS, ids=lambda path: path.name.split(".")[0])
def test_both_encodings_say_the_same(in_json: Path, in_protobuf: Path) -> None:
    """In google's runtime, by a proto file that has every field of theirs."""
    uni = "uni_" in in_json.name
    lines = zip(in_json.read_text().splitlines(), in_protobuf.read_text().splitlines(), strict=True)
    for one, other in lines:
        if one[0] not in "<>":
            assert one == other
            continue
        expected = list(read_json(hidden(one[2:], binary=False).removesuffix(b"\n")))
        name = {"<": "Push" if uni else "Reply", ">": "Command"}[one[0]]
        data = hidden(other[2:], binary=True)
        if uni and one[0] == ">":
            found = [google("ConnectRequest").FromString(data)]
        else:
            found = [google(name).FromString(each) for each in messages(data)]
        assert len(expected) == len(found)
        for message, read in zip(expected, found, strict=True):
            assert _is_same(message, read), f"{message}\n{read}"


def _is_same(value: Any, read: Any) -> bool:
    """Whether a value in JSON is that of a field. What is zero may be left out."""
    if isinstance(read, bytes):  # a payload, or with delta negotiated its text
        return bool(value == (text := read.decode()) or value == json.loads(text))
    if isinstance(read, str | int):
        return bool(value == read)
    if hasattr(read, "ListFields"):
        read = {field.name: each for field, each in read.ListFields()}
        value = {key: each for key, each in value.items() if each or each == {} or key in read}
        value = {key: each for key, each in value.items() if each != "null" or key in read}  # a removal's data
    if isinstance(value, dict):
        return value.keys() == set(read) and all(_is_same(each, read[key]) for key, each in value.items())
    return len(value) == len(read) and all(map(_is_same, value, read))


def test_how_frames_are_shown() -> None:
    frame = b'data: {"text":"\\n"}\n\n\r'
    assert hidden(shown(frame, binary=False), binary=False) == frame
    assert "\n" not in shown(frame, binary=False)
    assert hidden(shown(frame, binary=True), binary=True) == frame
