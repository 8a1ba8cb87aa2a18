"""The fixtures for users' tests."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI

from gateway.testing import Kit
from tests.testing.chat import create_app


class TestWithAnApplication:
    @pytest.fixture
    def gateway_app(self) -> Callable[[], FastAPI]:
        return create_app

    @pytest.fixture
    def kit_options(self) -> dict[str, Any]:
        return {"nodes": 2}

    async def test_kit(self, kit: Kit) -> None:
        room = await (await kit.connect(node=1)).subscribe("plain:x")
        await kit.gateway.publish("plain:x", 1)
        assert (await room.next()).data == 1


class TestWithAnApplicationOnly:
    @pytest.fixture
    def gateway_app(self) -> FastAPI:
        return create_app()

    async def test_kit(self, kit: Kit) -> None:
        assert len(kit.nodes) == 1


def test_the_fixture_that_is_missing(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.UsageError, match="def gateway_app"):
        request.getfixturevalue("gateway_app")
