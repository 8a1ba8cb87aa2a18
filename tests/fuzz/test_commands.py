"""Commands that are valid, nearly valid and garbage, at a real session: documented answers, and nothing is left.

What the hour of ``python -m tests.fuzz`` looks for is looked for here in a few seconds.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.grammar import encode, scenes
from tests.fuzz.ground import PROTOCOLS, Loop
from tests.fuzz.scenes import play
from tests.fuzz.seeds import seeds
from tests.fuzz.told import PUSHES, RESULTS


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_scenes_that_go_well(loop: Loop) -> None:
    """They have every command, and every push, on each wire."""
    kinds: Counter[str] = Counter()
    for scene in seeds():
        kinds += loop.run_until_complete(play(loop, scene)).kinds
    assert kinds.keys() >= RESULTS | {f"push {kind}" for kind in PUSHES}


@given(scenes())
@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # to make an example smaller takes longer than a test may
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
def test_nothing_but_documented_answers(loop: Loop, scene: bytes) -> None:
    loop.run_until_complete(play(loop, scene))


@pytest.mark.parametrize("kind", range(len(PROTOCOLS)))
def test_what_is_made_up_is_read(kind: int) -> None:
    """The grammar's commands are commands on each wire."""
    [command] = PROTOCOLS[kind][0]().decode(encode(kind, {"id": 1, "connect": {"token": "t", "data": 1}}))
    assert (command.id, command.request.token, bytes(command.request.data)) == (1, "t", b"1")
