"""A start that settings forbid, told in words: no traceback tells an operator what to write."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import SettingsError

log = logging.getLogger(__name__)


class Starting:
    """An application whose lifespan may raise ``SettingsError``: ``refused`` keeps it, and the log is spared it."""

    def __init__(self, app: Any) -> None:
        self._app: ASGIApp = app
        self.refused: SettingsError | None = None
        logging.getLogger("uvicorn.error").addFilter(self._lets_through)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        return self._live(scope, receive, send) if scope["type"] == "lifespan" else self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed: list[Message] = []

        async def hold_back(message: Message) -> None:
            """Frameworks put a traceback into the message of a start that failed, and then raise."""
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_back)
        except SettingsError as error:
            self.refused = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        except asyncio.CancelledError:
            log.debug("stopped at once")  # as a second signal asks for; let through, uvicorn would tell a traceback
        finally:
            if failed and self.refused is None:
                await send(failed[0])

    def _lets_through(self, record: logging.LogRecord) -> bool:
        return self.refused is None or "startup failed" not in record.getMessage()
