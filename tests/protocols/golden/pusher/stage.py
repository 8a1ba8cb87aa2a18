"""Plays a scene and writes down every frame and answer, with socket ids that are always the same."""

import itertools
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from unittest.mock import patch

from fastapi import FastAPI

from gateway import Gateway
from gateway.apps.base import App
from gateway.apps.signatures import sign, sign_request
from gateway.config.settings import PusherApp, Settings
from gateway.kinds import Names
from gateway.testing import Kit, Socket

KEY, SECRET = "k3y0example", "s3cr3t-example"
APP: dict[str, Any] = {
    "id": "9001",
    "key": KEY,
    "secret": SECRET,
    "enable_client_messages": True,
    "enable_watchlists": True,
}
PUSHER = {"enabled": True, "namespace": "shop"}
SETTINGS: dict[str, Any] = {
    "client": {"token": {"hmac_secret_key": "a secret of more than thirty-two bytes"}},
    "engine": {"publish_wait": 0},
    "channel": {"namespaces": [{"name": "shop", "history_size": 10, "history_ttl": "60s"}]},
}


class Scene(NamedTuple):
    name: str
    title: str
    play: Callable[["Stage"], Awaitable[None]]
    pusher: Mapping[str, Any] = {}
    """Settings of the protocol that differ from `PUSHER`."""
    app: Mapping[str, Any] = {}
    """Those of the app that differ from `APP`."""


def in_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Actor:
    """A client."""

    def __init__(self, stage: "Stage", name: str, socket: Socket, socket_id: str) -> None:
        self.name, self.socket, self.socket_id = name, socket, socket_id
        self._stage = stage
        self._gone = False

    async def say(self, event: str, data: Any, **more: Any) -> None:
        await self.say_text(in_json({"event": event, "data": data, **more}))

    async def say_text(self, text: str) -> None:
        self._stage.lines.append(f"{self.name} > {text}")
        await self.socket.send_text(text)
        await self._stage.look()

    async def subscribe(self, channel: str, channel_data: str = "", **more: Any) -> None:
        """As its backend allows it."""
        parts = [self.socket_id, channel, *([channel_data] if channel_data else [])]
        auth = f"{KEY}:{sign(SECRET, *parts)}" if channel.startswith(("private-", "presence-")) else ""
        data = {"auth": auth, **({"channel_data": channel_data} if channel_data else {}), "channel": channel}
        await self.say("pusher:subscribe", {**data, **more})

    async def unsubscribe(self, channel: str) -> None:
        await self.say("pusher:unsubscribe", {"channel": channel})

    async def sign_in(self, user_data: str) -> None:
        auth = f"{KEY}:{sign(SECRET, self.socket_id, '', 'user', '', user_data)}"
        await self.say("pusher:signin", {"auth": auth, "user_data": user_data})

    async def leave(self) -> None:
        self._stage.lines.append(f"* {self.name} closes")
        self._gone = True
        await self.socket.close()
        await self._stage.look()

    async def look(self) -> None:
        """Write down what has come."""
        inbox = self.socket._inbox
        while inbox:
            self._stage.lines.append(f"{self.name} < {inbox.popleft()!s}")
        if not self.socket.connected and not self._gone:
            self._gone = True
            end = await self.socket.ended()
            self._stage.lines.append(f"{self.name} ! {end.code} {end.reason}")


class Stage:
    """Where one scene is played."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.lines: list[str] = []
        self._actors: list[Actor] = []
        self._app = App(PusherApp(id="9001", key=KEY, secret=SECRET), Names("shop"))

    async def enter(self, name: str, key: str = KEY, **query: str) -> Actor:
        """A client connects."""
        asked = {"protocol": "7", "client": "js", "version": "8.6.0", "flash": "false", **query}
        target = f"/app/{key}?{'&'.join(f'{each}={value}' for each, value in asked.items())}"
        self.lines.append(f"{name} > GET {target}")
        socket = await self.kit.websocket(f"/app/{key}", query=asked)
        actor = Actor(self, name, socket, socket_id_of(len(self._actors)))
        self._actors.append(actor)
        await self.look()
        return actor

    async def post(self, path: str, body: Any) -> None:
        """The backend asks for something to be done."""
        await self._ask("POST", path, in_json(body).encode())

    async def get(self, path: str, **query: str) -> None:
        await self._ask("GET", path, b"", **query)

    async def wait(self, seconds: float) -> None:
        self.lines.append(f"* {seconds:g} seconds pass")
        await self.kit.clock.advance(seconds)
        await self.look()

    async def look(self) -> None:
        await self.kit.wait_idle()
        for actor in self._actors:
            await actor.look()

    def epoch(self, channel: str) -> str:
        position = self.kit.gateway.node.hub.channels[channel].position
        assert position is not None
        return position.epoch

    async def _ask(self, method: str, path: str, body: bytes, **query: str) -> None:
        signed: Any = sign_request(self._app, method, path, list(query.items()), body, self.kit.clock())
        shown = path + ("?" if query else "") + "&".join(f"{each}={value}" for each, value in query.items())
        self.lines.append(f"A > {method} {shown} {body.decode()}".rstrip())
        answer = await self.kit.http.request(method, path, content=body, params=signed)
        self.lines.append(f"A < {answer.status_code} {answer.text}")
        await self.look()


def socket_id_of(number: int) -> str:
    return f"48213.{907714 + number}"


def application(scene: Scene) -> FastAPI:
    pusher = {**PUSHER, "apps": [{**APP, **scene.app}], **scene.pusher}
    gateway = Gateway(Settings.model_validate({**SETTINGS, "pusher": pusher}))
    app = FastAPI()
    gateway.run_in(app)
    app.include_router(gateway.router)
    return app


async def play(scene: Scene) -> str:
    """The scene's transcript."""
    random.seed(1)  # epochs are random
    ids = map(socket_id_of, itertools.count())
    with patch("gateway.session.pusher.session.new_socket_id", lambda: next(ids)):
        async with Kit(application(scene)) as kit:
            stage = Stage(kit)
            await scene.play(stage)
    return "\n".join([f"# {scene.title}", *stage.lines, ""])
