"""What is there later: a gateway that starts on first use, for nobody runs the lifespan; what it serves then."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any

from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)


class LateStart:
    """A lifespan that begins amid an event loop and lasts as long as that."""

    def __init__(self, lifespan: AbstractAsyncContextManager[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = self._loop.create_future()
        # nothing of the request that comes first is to be in what is done for others
        self._task = self._loop.create_task(self._run(lifespan), context=Context())

    @property
    def over(self) -> bool:
        return self._task.done() or self._loop.is_closed()

    async def begun(self) -> None:
        """Return when it runs.

        Raises what its start does, and ``RuntimeError`` in another event loop.
        """
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "the gateway runs in the event loop of another client, since the application's lifespan does not run; "
                "in tests with several clients, enter it: `with TestClient(app) as client`"
            )
        await asyncio.shield(self._begun)

    async def _run(self, lifespan: AbstractAsyncContextManager[None]) -> None:
        try:
            async with lifespan:
                log.warning(
                    "the gateway starts on first use, and nobody tells it of the end, since no lifespan runs it. With "
                    "one client in a test that will do; for several write `with TestClient(app) as client`. Elsewhere "
                    "write gateway.run_in(app), and let the server run the lifespan, as it does unless told not to"
                )
                self._begun.set_result(None)
                await asyncio.Event().wait()  # the end of the loop cancels it
        except Exception as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)


class LateApplication:
    """An ASGI application that is known only when the gateway runs."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._find()(scope, receive, send)
