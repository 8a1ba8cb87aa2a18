"""Many things, some at a time."""

import asyncio

import pytest

from gateway.batches import in_turns


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
async def test_others_have_their_turn_amid_many(count: int) -> None:
    others: list[int] = []

    def make(number: int) -> str:
        asyncio.get_running_loop().call_soon(others.append, number)
        return f"{number} after {len(others)}"

    made = await in_turns(range(count), 2, make)
    assert made == [f"{number} after {number - number % 2}" for number in range(count)]
