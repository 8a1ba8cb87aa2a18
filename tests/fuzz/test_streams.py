"""What judges the publications of a scene, on some that are wrong."""

from typing import Any

import pytest

from gateway.messages import SubscribeRequest
from gateway.protocols import fossil
from tests.fuzz.streams import Streams

LIVE = {"positioned": True, "offset": 3}
WHOLE = '{"text":"that is the same each time, and long enough for a patch to be shorter","n":1}'


def streams(result: dict[str, Any]) -> Streams:
    found = Streams(binary=False)
    found.begin("room", SubscribeRequest("room"), result)
    return found


@pytest.mark.parametrize(
    ("result", "publication", "wrong"),
    [
        (LIVE, {"offset": 5}, "room: 3, 5"),
        (LIVE, {"offset": 3}, "room: 3, 3"),
        ({**LIVE, "publications": [{"offset": 5}, {"offset": 4}]}, {}, "not in their order"),
        (LIVE, {"offset": 4, "delta": True}, "nobody has asked for"),
        ({**LIVE, "delta": True}, {"offset": 4, "data": "1;", "delta": True}, "a patch of nothing"),
        ({**LIVE, "delta": True}, {"offset": 4, "data": {}}, "not in the form"),
        ({**LIVE, "delta": True, "state": [{"delta": True}]}, {}, "a patch in the state"),
    ],
)
def test_what_is_wrong(result: dict[str, Any], publication: dict[str, Any], wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        streams(result).take("room", publication)


def test_a_patch_of_something_else() -> None:
    found = streams({**LIVE, "delta": True, "publications": [{"offset": 4, "data": WHOLE}]})
    other = WHOLE.replace("same", "thin")
    patch = fossil.create(other.encode(), other.replace(":1}", ":2}").encode()).decode()
    with pytest.raises(fossil.FossilError, match="checksum"):
        found.take("room", {"offset": 5, "data": patch, "delta": True})


def test_what_is_right() -> None:
    found = streams({**LIVE, "publications": [{"offset": 4}, {"offset": 5}]})
    found.take("room", {"offset": 6, "data": 1})
    found.end(["room"])
    found.take("room", {"offset": 9})
