"""A node with an app of the Pusher protocol, and clients that only write down what they are sent."""

import json
from functools import partial
from typing import Any

from gateway.apps.base import App
from gateway.apps.signatures import sign
from gateway.apps.static import StaticApps
from gateway.config.settings import Settings
from gateway.messages import Payload, Publication
from gateway.protocols.pusher import PusherProtocol
from gateway.session import NO_APPLICATION, Handshake, PusherSession
from gateway.session.pusher import Shared, terminating
from gateway.transports.single_frames import PortableWire
from tests.session.rig import NOW, Recorder, Rig

KEY, SECRET = "k3y0example", "s3cr3t-example"
APP: dict[str, Any] = {"id": "9001", "key": KEY, "secret": SECRET, "enable_client_messages": True}

Message = dict[str, Any]


class Told:
    """Satisfies `Hooks`: writes down what backends would be told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def client_event(self, app: App, channel: str, event: str, data: str, socket_id: str, user: str) -> None:
        self.told.append(("client_event", app.id, channel, event, data, socket_id, user))

    def cache_miss(self, app: App, channel: str, period: str) -> None:
        self.told.append(("cache_miss", app.id, channel, period))


class PusherRig(Rig):
    """Its app may differ from ``APP``."""

    def __init__(
        self,
        app: dict[str, Any],
        client: dict[str, Any],
        namespace: dict[str, Any],
        pusher: dict[str, Any],
        application: Any = NO_APPLICATION,
    ) -> None:
        settings = Settings(
            client={"token": {"hmac_secret_key": "a secret of more than thirty-two bytes"}, **client},
            channel={"namespaces": [{"name": "shop", **namespace}]},
            pusher={"enabled": True, "namespace": "shop", "apps": [APP | app], **pusher},
        )
        super().__init__({}, {}, settings)
        self.apps = StaticApps(settings.pusher)
        self.app = self.apps.known(KEY)
        self.hooks = Told()
        self.shared = Shared(self.node, self.hooks)
        self.application = application
        terminating.listen(self.node)

    @classmethod
    async def start(
        cls,
        *,
        client: dict[str, Any] | None = None,
        namespace: dict[str, Any] | None = None,
        pusher: dict[str, Any] | None = None,
        application: Any = NO_APPLICATION,
        **app: Any,
    ) -> "PusherRig":
        rig = cls(app, client or {}, namespace or {}, pusher or {}, application)
        await rig.broker.start(rig.node.uid, rig.node)
        return rig

    def newcomer(self, *, resumes: bool = False) -> "PusherClient":
        """One whose app is not known yet."""
        return PusherClient(self, resumes=resumes)

    def enter(self, *, resumes: bool = False) -> "PusherClient":
        client = self.newcomer(resumes=resumes)
        assert self.app is not None
        client.session.welcome(self.app)
        [hello] = client.take()
        assert hello["event"] == "pusher:connection_established"
        assert json.loads(hello["data"]) == {"socket_id": client.session.client, "activity_timeout": 60}
        return client

    async def say(self, channel: str, data: str, event: str = "order.paid", **more: Any) -> None:
        """What a backend publishes."""
        publication = Publication(Payload(data.encode()), tags={"event": event}, **more)
        await self.node.publish(self.node.channels.resolve(f"shop:{channel}"), publication)


class PusherClient:
    """What a client of an app sees."""

    def __init__(self, rig: PusherRig, *, resumes: bool) -> None:
        assert rig.app is not None
        self.rig = rig
        self.transport = Recorder()
        make = partial(PusherSession, shared=rig.shared, resumes=resumes)
        wire = PortableWire(PusherProtocol(rig.app.names, offsets=resumes))
        self.session = make(rig.node, rig.tokens, wire, self.transport, Handshake(), rig.application)

    @property
    def closed(self) -> tuple[int, str] | None:
        reasons = self.transport.reasons
        return (reasons[0].code, reasons[0].reason) if reasons else None

    def take(self) -> list[Message]:
        """All that was sent since."""
        self.rig.node.hub.flush()
        frames: list[Any] = self.transport.frames  # as this wire has them: several at once
        self.transport.frames = []
        return [json.loads(each) for some in frames for each in (some if isinstance(some, list) else [some])]

    async def send(self, event: str, data: Any = None, **more: Any) -> list[Message]:
        """Say something. What was sent by the time that all is done."""
        return await self.send_raw(json.dumps({"event": event, "data": data or {}, **more}))

    async def send_raw(self, text: str) -> list[Message]:
        await self.session.receive(text.encode())
        await self.rig.settle()
        return self.take()

    def signed(self, channel: str, channel_data: str = "") -> Message:
        """Data of a subscribe, as its backend allows it."""
        if not channel.startswith(("private-", "presence-")):
            return {"channel": channel, "auth": ""}
        parts = [self.session.client, channel, channel_data] if channel_data else [self.session.client, channel]
        data = {"channel": channel, "auth": f"{KEY}:{sign(SECRET, *parts)}"}
        return data | ({"channel_data": channel_data} if channel_data else {})

    async def subscribe(self, channel: str, channel_data: str = "", **more: Any) -> list[Message]:
        return await self.send("pusher:subscribe", self.signed(channel, channel_data) | more)

    async def join(self, channel: str, user: Any, **info: Any) -> Message:
        """Subscribe to a presence channel; the roster in the ack."""
        channel_data = json.dumps({"user_id": user} | ({"user_info": info} if info else {}))
        [ack] = await self.subscribe(channel, channel_data)
        assert ack["event"] == "pusher_internal:subscription_succeeded"
        presence: Message = json.loads(ack["data"])["presence"]
        return presence

    async def sign_in(self, user: str, **more: Any) -> list[Message]:
        text = json.dumps({"id": user, **more})
        auth = f"{KEY}:{sign(SECRET, self.session.client, '', 'user', '', text)}"
        return await self.send("pusher:signin", {"auth": auth, "user_data": text})

    async def leave(self) -> None:
        await self.session.end()
        await self.rig.settle()


def ack(channel: str) -> Message:
    return {"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"}


class Text(str):
    """Equals any text."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other)


def refusal(channel: str, kind: str, status: int) -> Message:
    """What a subscribe is answered that is refused, whatever the text."""
    data = {"type": kind, "error": Text(), "status": status}
    return {"event": "pusher:subscription_error", "channel": channel, "data": data}


def error(code: int | None, text: str) -> Message:
    return {"event": "pusher:error", "data": {"code": code, "message": text}}


def event(channel: str, data: Any, name: str = "order.paid", **more: Any) -> Message:
    return {"event": name, "channel": channel, "data": data, **more}


__all__ = ["APP", "KEY", "NOW", "SECRET", "PusherClient", "PusherRig", "ack", "error", "event", "refusal"]
