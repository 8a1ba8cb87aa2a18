"""Annotations that are read late, and of what is no plain function: fields that they leave out stay inside."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, Query
from pydantic import BaseModel

from gateway import Gateway
from gateway.program.routes.signatures import SignatureError, returned
from tests.program.routes.clients import connected, gateway_with

if TYPE_CHECKING:
    from decimal import Context as Database


class Public(BaseModel):
    name: str


class Private(Public):
    password: str = "hunter2"


def database() -> int:
    return 1


FOUND: Any = Depends(database)


@pytest.fixture
def gateway() -> Gateway:
    return gateway_with()


async def of_a_database(db: Database = FOUND) -> Public:
    return Private(name="a")


async def nested(db: Database = FOUND) -> list["Public"]:  # noqa: UP037
    return [Private(name="a")]


async def of_a_number(number: int) -> Public:
    return Private(name="a")


class Callable:
    async def __call__(self) -> Public:
        return Private(name="a")


HANDLERS: list[tuple[Any, Any]] = [
    (of_a_database, {"name": "a"}),
    (nested, [{"name": "a"}]),
    (partial(of_a_number, number=Depends(database)), {"name": "a"}),
    (Callable(), {"name": "a"}),
]


@pytest.mark.parametrize(("handler", "expected"), HANDLERS)
async def test_what_the_annotation_leaves_out_stays_inside(gateway: Gateway, handler: Any, expected: Any) -> None:
    gateway.rpc("look")(handler)
    async with connected(gateway) as client:
        assert await client.call("look") == expected


async def test_one_name_for_the_type_checker_spoils_no_other(gateway: Gateway) -> None:
    @gateway.rpc("look")
    async def look(flag: Annotated[str, Query()] = "unset", db: Database = FOUND) -> str:
        return flag

    async with connected(gateway) as client:
        assert await client.call("look") == "unset"


def test_an_answer_of_an_unknown_type_is_refused(gateway: Gateway) -> None:
    """Nobody could say what of it may be shown."""

    async def look() -> list[Database] | None: ...

    with pytest.raises(SignatureError, match=r"look returns Database, whose type is not known .*: import it for good"):
        gateway.rpc("look")(look)


def test_an_object_without_a_name_is_refused_in_words(gateway: Gateway) -> None:
    class Odd:
        async def __call__(self) -> Gateway | None: ...

        def __repr__(self) -> str:
            return "<odd>"

    with pytest.raises(SignatureError, match=r"<odd> gives .*Gateway.*, of which no data can be made"):
        gateway.rpc("look")(Odd())


def test_nothing_is_no_missing_annotation() -> None:
    async def nothing() -> None: ...

    async def unsaid(): ...  # type: ignore[no-untyped-def]

    assert returned(nothing) is type(None)
    assert returned(unsaid) is None


async def test_what_a_live_source_yields_is_what_it_says(gateway: Gateway) -> None:
    """Binary data and null are nobody's fields."""
    ticks = gateway.channel("ticks", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)

    @ticks.live
    async def tick(db: Database = FOUND) -> AsyncIterator[Public | None]:
        yield Private(name="a")
        yield None

    raw = gateway.channel("raw", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True)

    @raw.live
    async def bytes_(db: Database = FOUND) -> AsyncIterator[bytes]:
        yield b"\x00\x01"

    async with connected(gateway) as client:
        await client.subscribe("ticks")
        await client.hears({"name": "a"}, None, channel="ticks")
        async with gateway.listen("raw") as heard:
            publication = await anext(aiter(heard))
        assert publication.data == b"\x00\x01"


async def test_a_live_source_need_not_say_what_it_yields(gateway: Gateway) -> None:
    @gateway.channel("ticks", allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True).live
    async def tick() -> typing.AsyncIterator:  # type: ignore[type-arg]
        yield {"any": "thing"}

    async with connected(gateway) as client:
        await client.subscribe("ticks")
        await client.hears({"any": "thing"}, channel="ticks")


def test_items_that_no_data_can_be_made_of_are_refused(gateway: Gateway) -> None:
    async def tick() -> AsyncIterator[Gateway]:
        yield gateway

    with pytest.raises(SignatureError, match=r"tick gives .*Gateway.*, of which no data can be made"):
        gateway.channel("ticks").live(tick)
