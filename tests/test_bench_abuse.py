"""That the measure of an abuser beside honest clients measures it."""

import pytest

from bench import abuse


@pytest.mark.parametrize("kind", ["connects", "commands"])
def test_an_abuser_gets_little_and_honest_clients_all(kind: str) -> None:
    figures = abuse.measure("default", kind, count=20, seconds=2.0)
    assert figures["of"] > 0
    assert (figures["lost"], figures["refused"], figures["cut"]) == (0, 0, 0)
    assert 0 < figures["let in/s"] <= figures["abuser: connects/s"]
    assert (figures["commands/s"] > 0) == (kind == "commands")
    assert figures["carried out/s"] <= figures["commands/s"]


def test_without_limits_it_gets_more() -> None:
    figures = abuse.measure("none", "commands", count=20, seconds=2.0)
    assert figures["let in/s"] == abuse.PARALLEL / 2.0
    assert figures["carried out/s"] == figures["commands/s"] > 1000


def test_frames_of_either_length() -> None:
    assert abuse._frame(b"hi") == b"\x81\x82\0\0\0\0hi"
    assert abuse._frame(b"x" * 300)[:8] == b"\x81\xfe\x01\x2c\0\0\0\0"
