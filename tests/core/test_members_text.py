"""The text of all members: right after any changes, and made of blocks."""

import json
import random
from typing import Any

import pytest

from gateway.core.members_text import BLOCK, MembersText
from gateway.messages import Payload


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_members_have_come_and_gone(seed: int) -> None:
    chance = random.Random(seed)
    text, there, largest = MembersText(), dict[str, int](), 0
    for number in range(chance.choice((3, 30, 4 * BLOCK, 10 * BLOCK))):
        user = f'{number} "\\\x01☃'
        there[user] = text.add(user, None if number % 3 else Payload(b'{"of": "' + str(number).encode() + b'\\n"}\n'))
        while there and chance.random() < 0.45:
            text.remove(there.pop(chance.choice([*there])))
        largest = max(largest, len(there))
        if chance.random() < 0.2:
            assert parsed(text)["count"] == len(there)
        kept = bytes(text)
        assert bytes(text) is kept
    found = parsed(text)
    assert found["ids"] == [*found["hash"]] == [*there]
    assert found["count"] == len(there)
    for user, info in found["hash"].items():
        number = int(user.split()[0])
        assert info == (None if number % 3 else {"of": f"{number}\n"})


def test_nothing_is_left_of_those_who_have_gone() -> None:
    text = MembersText()
    for number in [text.add(str(each), None) for each in range(3 * BLOCK)]:
        text.remove(number)
    assert parsed(text) == {"ids": [], "hash": {}, "count": 0}
    assert not text._blocks


def test_a_change_has_one_block_written_anew() -> None:
    text = MembersText()
    numbers = [text.add(str(each), None) for each in range(5 * BLOCK)]
    bytes(text)
    text.remove(numbers[BLOCK])
    text.add("new", None)
    assert [block.made is None for block in text._blocks.values()] == [False, True, False, False, False, True]


def parsed(text: MembersText) -> Any:
    return json.loads(json.loads(bytes(text)))["presence"]
