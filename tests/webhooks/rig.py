"""Nodes that tell webhooks, with a clock of their own, and what their receivers have got."""

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.apps.base import App
from gateway.config.settings.pusher import PusherApp, PusherWebhookSettings
from gateway.core.wheel import Wheel
from gateway.errors import Error, ErrorCode
from gateway.kinds import Names
from gateway.leases.memory import MemoryLeases
from gateway.metrics import Metrics
from gateway.outbox.base import Event, Rules
from gateway.outbox.memory import Kept, MemoryOutbox
from gateway.recurring import Recurring
from gateway.webhooks.lane import Telling
from gateway.webhooks.post import Failed
from gateway.webhooks.sender import Sender
from gateway.webhooks.targets import Target
from tests.waiting import settle

_log = logging.getLogger("gateway.webhooks")

URL = "https://one.example/hook"


def an_app(app_id: str = "9001", *urls: str, **fields: Any) -> App:
    """An app whose webhooks want everything at these addresses, unless ``webhooks`` says otherwise."""
    webhooks = [{"url": url} for url in urls or (URL,)]
    made = {"id": app_id, "key": f"key{app_id}", "secret": "s3cr3t-example", "webhooks": webhooks, **fields}
    settings = PusherApp.model_validate(made)
    return App(settings, Names(settings.namespace or ""))


class FakeApps:
    """The apps that a test has given, some of which are found by their key alone."""

    def __init__(self, *apps: App) -> None:
        self.apps = {app.id: app for app in apps}
        self.loaded: dict[str, App] = {}
        self.fails = False
        self.asked: list[str] = []

    def known(self, key: str) -> App | None:
        return next((app for app in self.apps.values() if app.settings.key == key), None)

    async def find(self, key: str) -> App | None:
        self.asked.append(key)
        if self.fails:
            raise Error(ErrorCode.INTERNAL)
        return self.known(key) or self.loaded.get(key)

    def by_id(self, app_id: str) -> App | None:
        return self.apps.get(app_id)

    def of_channel(self, channel: str) -> App | None:
        return next((app for app in self.apps.values() if channel.startswith(app.names.prefix)), None)


@dataclass
class Told:
    url: str
    events: list[str]
    ids: list[str]
    attempt: int


@dataclass
class Receivers:
    """What has been posted, and who fails: those in ``failing``, and those that are held until they are let go."""

    told: list[Told] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)
    failing: set[str] = field(default_factory=set)
    held: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(_open))

    async def send(self, target: Target, events: Sequence[Event], attempt: int, within: float) -> None:
        self.tried[target.url] += 1
        if target.url in self.failing:
            raise Failed("status", "the status is 500")
        bodies = [json.loads(event.body)["channel"] for event in events]
        self.told.append(Told(target.url, bodies, [event.id for event in events], attempt))
        await self.held[target.url].wait()

    def channels(self, url: str = URL) -> list[str]:
        return [channel for each in self.told if each.url == url for channel in each.events]


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


class Rig:
    """Some nodes over one outbox in memory. Time stands still, but for ``pass_time``."""

    def __init__(self, *apps: App, **settings: Any) -> None:
        self.now = 1_760_000_000.0
        self.apps = FakeApps(*apps)
        self.receivers = Receivers()
        self.settings = PusherWebhookSettings(**settings)
        self.metrics = Metrics(self.clock)
        self.wheel = Wheel(self.clock)
        self.leases = MemoryLeases(ttl=60, clock=self.clock)
        self.kept: dict[str, Kept] = {}
        self.outbox = self.node()
        self.recurring = Recurring(_log, self.clock)
        self.telling = Telling(
            self.outbox, self.receivers, lambda: self.settings, self.metrics, self.recurring, self.clock, self.pause
        )
        self.outbox.lost = self.telling.lost

    def clock(self) -> float:
        return self.now

    def node(self) -> MemoryOutbox:
        """Another node's part in the outbox."""
        rules = Rules(self.settings.vacated_delay, self.settings.dead_letters, most=1000)
        return MemoryOutbox(rules, self.clock, self.kept)

    def sender(self, name: str = "n1") -> Sender:
        return Sender(self.telling, self.leases, name, lambda: self.apps)

    async def pause(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wheel.after(seconds, lambda: None if over.done() else over.set_result(None))
        await over

    async def pass_time(self, seconds: float = 1.0) -> None:
        """Let so much time pass, and everything happen that happens meanwhile."""
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.wheel.turn()
            await settle()

    async def say(self, *channels: str, app: str = "9001") -> None:
        for channel in channels:
            event = json.dumps({"name": "client_event", "channel": channel}).encode()
            await self.outbox.add(app, f"key{app}", event)
