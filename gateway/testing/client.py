"""A client that speaks the Centrifuge protocol in JSON, and behaves as the official SDKs do.

Source: Centrifuge client protocol v2. Unlike an SDK it does not connect again by itself: a test says when.
"""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from gateway.program.encoding import encode_data
from gateway.testing.call import LOST, UpgradeRequest
from gateway.testing.cluster import Cluster
from gateway.testing.outcomes import Disconnected, Refused
from gateway.testing.peer import Peer
from gateway.testing.subscription import RESUBSCRIBE, Subscription

T = TypeVar("T")

Answered = Callable[[dict[str, Any]], None]
"""Takes in a result before anything that comes after it."""

INVALIDATED = 2502
"""The client's position means nothing any more."""

NOWHERE = "kit:nowhere"
"""A channel that nobody is subscribed to: to leave it is answered, and asks nobody."""


class Client(Peer):
    """Made by `Kit.connect`. What asks raises `Refused` for an error, `Disconnected` at the end, `Late` if no answer
    comes in time."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        node: int,
        deadline: float,
        handshake: UpgradeRequest,
        request: Mapping[str, Any],
    ) -> None:
        super().__init__(name, cluster, node, deadline)
        self.id = ""
        """What the gateway calls the connection; another after each return."""
        self.data: Any = None
        """What came with the answer to connect."""
        self.token: str = request.get("token", "")
        """What it connects with; may be replaced before a return."""
        self.subscriptions: dict[str, Subscription] = {}
        self._handshake = handshake
        self._request = request
        self._ids = itertools.count(1)
        self._asked: dict[int, Answered] = {}
        self._replies: dict[int, dict[str, Any]] = {}
        self._messages: deque[Any] = deque()
        self._answers_pings = False
        self._tasks: set[asyncio.Task[None]] = set()

    # — connection —

    async def connect(self) -> None:
        """Open the connection, and take up the subscriptions that there were."""
        call = await self._open(self._handshake)
        mine = [each for each in self.subscriptions.values() if not each.server_side]
        subs = {each.channel: each.since for each in self.subscriptions.values() if each.server_side}
        for each in self.subscriptions.values():
            each.active = False
        try:
            await self.ask("connect", {**self._request, "token": self.token, "subs": subs}, self._connected)
        except Refused:
            call.close()
            raise
        for each in mine:
            await self._subscribe(each)

    async def reconnect(self, *, node: int | None = None) -> None:
        """Come back after the connection has ended, to another node if need be, and recover what was missed."""
        self._node = self._node if node is None else self._cluster.nodes[node]
        await self.connect()

    @asynccontextmanager
    async def dropped(
        self, seconds: float = 0.0, *, noticed: bool = True, node: int | None = None
    ) -> AsyncIterator[None]:
        """Lose the connection without a goodbye; after the block ``seconds`` pass, and the client comes back.

        With ``noticed=False`` the gateway is not told, as when a cable is pulled: it finds out when no pong comes.
        """
        if noticed:
            await self.close(LOST)
        else:
            self._call.vanish()
        await self._cluster.clock.advance(0)
        yield
        await self._cluster.clock.advance(seconds)
        await self.reconnect(node=node)

    # — channels —

    async def subscribe(self, channel: str, *, token: str = "", data: Any = None) -> Subscription:
        """Subscribe. Raises `Refused` (103: permission denied, …)."""
        subscription = self.subscriptions.get(channel) or Subscription(self, channel)
        subscription.request = {"token": token} if token else {}
        if data is not None:
            subscription.request["data"] = _raw(data)
        await self._subscribe(subscription)
        return subscription

    async def subscription(self, channel: str, *, within: float | None = None) -> Subscription:
        """Wait for a subscription that the server makes."""

        def look() -> Subscription | None:
            found = self.subscriptions.get(channel)
            return found if found and found.active else None

        return await self.until(look, f"subscription to {channel!r}", within)

    async def unsubscribe(self, channel: str | Subscription) -> None:
        name = channel if isinstance(channel, str) else channel.channel
        await self.ask("unsubscribe", {"channel": name}, lambda _: self._forget(name))

    async def publish(self, channel: str, data: Any) -> None:
        """``data`` is anything that JSON can say; a pydantic model, too."""
        await self.ask("publish", {"channel": channel, "data": _raw(data)})

    async def presence(self, channel: str) -> dict[str, Any]:
        """Who is subscribed, by client id."""
        found: dict[str, Any] = (await self.ask("presence", {"channel": channel}))["presence"]
        return found

    async def history(
        self, channel: str, *, limit: int = -1, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> list[Any]:
        """Data of what the channel keeps; ``since`` is an offset with its epoch."""
        request: dict[str, Any] = {"channel": channel, "limit": limit, "reverse": reverse}
        if since is not None:
            request["since"] = {"offset": since[0], "epoch": since[1]}
        return [each.get("data") for each in (await self.ask("history", request))["publications"]]

    # — calls —

    async def rpc(self, method: str, data: Any = None) -> Any:
        return (await self.ask("rpc", {"method": method, "data": _raw(data)})).get("data")

    async def message(self, *, within: float | None = None) -> Any:
        """The next of what was sent to this connection alone (`Gateway.send`)."""
        [data] = await self.until(lambda: [self._messages.popleft()] if self._messages else None, "message", within)
        return data

    async def refresh(self, token: str) -> None:
        """Give a new token for the connection."""
        self.token = token
        await self.ask("refresh", {"token": token})

    async def ask(self, kind: str, body: Mapping[str, Any], answered: Answered | None = None) -> dict[str, Any]:
        """Send a command as it stands in the protocol; its result."""
        number = next(self._ids)
        if answered is not None:
            self._asked[number] = answered
        self._say({"id": number, kind: body})
        reply = await self.until(lambda: self._replies.pop(number, None), f"answer to {kind} {_shown(body)}")
        if (error := reply.get("error")) is not None:
            raise Refused(error["code"], error["message"], error.get("temporary", False))
        result: dict[str, Any] = reply[kind]
        return result

    # — for the kit —

    async def round_trip(self) -> None:
        """Return when all that was published before has been received."""
        await self._cluster.wait_idle()
        await self.ask("unsubscribe", {"channel": NOWHERE})

    def may_lack(self, channel: str, offset: int) -> bool:
        """Whether a publication was not for everybody, so that it need not have come."""
        return (channel, offset) in self._node.link.excluding

    async def cease(self) -> None:
        """End what goes on by itself."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # — inside —

    async def _subscribe(self, subscription: Subscription) -> None:
        channel = subscription.channel
        request = {"channel": channel, **subscription.request, **subscription.since}
        try:
            await self.ask("subscribe", request, lambda result: self._given(subscription, result))
        except Refused as refusal:
            self.subscriptions.pop(channel, None)
            subscription.refusal = refusal
            raise

    async def _again(self, subscription: Subscription) -> None:
        try:
            await self._subscribe(subscription)
            subscription.resubscriptions.append(subscription.recovered)
        except (Refused, Disconnected):  # which who waits for the subscription is told
            pass
        except Exception as error:
            self._fault = self._fault or error
        finally:
            self.look()

    def _connected(self, result: dict[str, Any]) -> None:
        self.id, self.data = result["client"], result.get("data")
        self._answers_pings = result.get("pong", False)
        for channel in [each.channel for each in self.subscriptions.values() if each.server_side]:
            if channel not in result.get("subs", {}):
                self._forget(channel)
        for channel, each in result.get("subs", {}).items():
            self._given(self._by_server(channel), each)

    def _given(self, subscription: Subscription, result: dict[str, Any]) -> None:
        self.subscriptions[subscription.channel] = subscription
        subscription.begin(result)

    def _by_server(self, channel: str) -> Subscription:
        return self.subscriptions.get(channel) or Subscription(self, channel, server_side=True)

    def _forget(self, channel: str) -> None:
        if (subscription := self.subscriptions.pop(channel, None)) is not None:
            subscription.active = False

    def _say(self, command: Mapping[str, Any]) -> None:
        self.check()
        if self._call.end is not None:
            raise self._call.end
        self._call.send(msgspec.json.encode(command).decode())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # — what comes —

    def _take(self, content: str | bytes) -> None:
        assert isinstance(content, str), "JSON comes as text"
        for line in content.split("\n"):
            message = json.loads(line)
            if not message:
                self._ping()
            else:
                self._heard.append(line)
                if "id" in message:
                    self._reply(message)
                else:
                    self._push(message["push"])

    def _ping(self) -> None:
        if self._answers_pings:
            self._call.send("{}")

    def _reply(self, message: dict[str, Any]) -> None:
        answered = self._asked.pop(message["id"], None)
        if answered is not None and "error" not in message:
            [result] = (value for key, value in message.items() if key != "id")
            answered(result)
        self._replies[message["id"]] = message

    def _push(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        match push:
            case {"pub": publication}:
                self._active(channel).publish(publication)
            case {"join": join}:
                self._active(channel).joins.append(join["info"])
            case {"leave": leave}:
                self._active(channel).leaves.append(leave["info"])
            case {"message": {"data": data}}:
                self._messages.append(data)
            case {"subscribe": result}:
                self._given(self._by_server(channel), result)
            case {"unsubscribe": {"code": code, "reason": reason}}:
                # it may also end what has only been asked for, as the answer to that will say
                if (subscription := self.subscriptions.get(channel)) is not None and subscription.active:
                    self._unsubscribed(subscription, code, reason)

    def _active(self, channel: str) -> Subscription:
        subscription = self.subscriptions.get(channel)
        if subscription is None or not subscription.active:
            raise AssertionError(f"{self.name} is not subscribed to {channel!r}, and yet has received from it")
        return subscription

    def _unsubscribed(self, subscription: Subscription, code: int, reason: str) -> None:
        subscription.active = False
        if code < RESUBSCRIBE:
            subscription.refusal = Refused(code, reason)
            self._forget(subscription.channel)
            return
        if code == INVALIDATED:
            subscription.offset, subscription.epoch = 0, "_"
        self._spawn(self._again(subscription))


def _raw(data: Any) -> msgspec.Raw:
    """Encoded as the gateway encodes what the program publishes."""
    return msgspec.Raw(encode_data(data))


def _shown(body: Mapping[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
