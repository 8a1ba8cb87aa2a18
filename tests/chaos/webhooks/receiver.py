"""The app's backend: verifies, writes down, and answers well, badly, late or never."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pusher
from aiohttp import web

from tests.chaos.pace import pace
from tests.chaos.webhooks.tab import KEY, SECRET
from tests.ports import free_port

MOODS = ("well", "well", "slow", "refuses", "takes and refuses", "hangs", "takes and hangs")


@dataclass
class Delivery:
    """One request whose events were believed, though it may not have been told so."""

    at: float
    ids: list[str]
    events: list[dict[str, Any]]
    attempt: int
    answered: bool = False
    """Whether it was told in time that they were."""


@dataclass
class Inbox:
    """What one address has got."""

    mood: str = "well"
    deliveries: list[Delivery] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    requests: int = 0

    def events(self) -> dict[str, dict[str, Any]]:
        """Each by its id, in the order in which they came."""
        found: dict[str, dict[str, Any]] = {}
        for delivery in self.deliveries:
            for number, event in zip(delivery.ids, delivery.events, strict=True):
                if found.setdefault(number, event) != event:
                    self.faults.append(f"{number} is both {found[number]} and {event}")
        return found


class Receiver:
    """Use as an async context manager. ``sever`` ends it at once, ``restore`` has it back at the same address."""

    def __init__(self, patience: float, *paths: str) -> None:
        """``patience`` is how long the gateway waits for an answer."""
        self.inboxes = {path: Inbox() for path in paths}
        self.trap: Callable[[], Awaitable[None]] | None = None
        """Called once, when events were believed and nobody has been told so."""
        self._patience = patience
        self._port = free_port()
        self._pusher = pusher.Pusher(app_id="9001", key=KEY, secret=SECRET)
        self._runner: web.AppRunner | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}/{path}"

    async def __aenter__(self) -> "Receiver":
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sever()

    async def restore(self) -> None:
        app = web.Application()
        app.router.add_post("/{path}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def sever(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def sulk(self, dice: random.Random) -> None:
        for inbox in self.inboxes.values():
            inbox.mood = dice.choice(MOODS)

    def calm(self) -> None:
        for inbox in self.inboxes.values():
            inbox.mood = "well"

    async def _take(self, request: web.Request) -> web.Response:
        inbox = self.inboxes[request.match_info["path"]]
        inbox.requests += 1
        body, mood = await request.text(), inbox.mood
        if mood == "refuses":
            return web.Response(status=500)
        if mood == "hangs":
            await pace(4 * self._patience)
        delivery = self._believe(inbox, request, body)
        if self.trap is not None:
            trap, self.trap = self.trap, None
            await asyncio.shield(asyncio.ensure_future(trap()))
            return web.Response(status=500)
        if mood == "slow":
            await pace(self._patience / 4)
        elif mood == "takes and hangs":
            await pace(4 * self._patience)
        elif mood == "takes and refuses":
            return web.Response(status=503)
        delivery.answered = True
        return web.Response(status=204)

    def _believe(self, inbox: Inbox, request: web.Request, body: str) -> Delivery:
        headers = request.headers
        key, signature = headers["X-Pusher-Key"], headers["X-Pusher-Signature"]
        if self._pusher.validate_webhook(key, signature, body) is None:
            inbox.faults.append(f"a signature is wrong: {body}")
        events = json.loads(body)["events"]
        ids, attempt = headers["X-Gateway-Delivery"].split(","), int(headers["X-Gateway-Attempt"])
        if len(ids) != len(events):
            inbox.faults.append(f"{ids} are not the ids of {events}")
        delivery = Delivery(time.time(), ids, events, attempt)
        inbox.deliveries.append(delivery)
        return delivery
