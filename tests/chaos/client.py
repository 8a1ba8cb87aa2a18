"""A client that behaves as the SDKs do: comes back with backoff, recovers from where it stood, obeys codes.

Source: Centrifuge protocol, "Codes", "Subscribing and unsubscribing", "Recovery".
"""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.chaos.model import Model
from tests.chaos.pace import pace
from tests.integration.servers import Server
from tests.integration.tokens import connection_token

ANSWER = 5.0
"""Seconds after which a command without an answer is given up, and the connection with it."""
SILENCE = 8.0
"""Seconds without a ping, of which there is one every five, after which a connection is dead."""
LOOK = 0.25
"""Seconds between looks at what is overdue."""
LONGEST = 2.0
"""Seconds of backoff at most."""
KICKED, DENIED = 3503, 103
RESUBSCRIBE = 2500
"""From this code on a client subscribes again by itself."""


def terminal(code: int) -> bool:
    """Whether a client that is closed with this code stays away."""
    return 3500 <= code <= 3999 or 4500 <= code <= 4999


class Subscription:
    """One channel, and where the client stands in it."""

    def __init__(self, channel: str, *, server_side: bool = False) -> None:
        self.channel = channel
        self.server_side = server_side
        self.position: tuple[str, int] | None = None
        """Epoch and offset."""
        self.live = False
        self.due: float | None = 0.0
        """When it is to be asked for; None while there is no need."""
        self.failures = 0
        self.revoked = False
        """Whether the server has taken it away before it had answered."""

    def request(self) -> dict[str, Any]:
        if self.position is None:
            return {}
        epoch, offset = self.position
        return {"recover": True, "epoch": epoch, "offset": offset}


class Client:
    """One user's page. ``run`` it in a task; ``leave`` ends it."""

    def __init__(self, user: str, nodes: Sequence[Server], model: Model, dice: random.Random) -> None:
        self.user = user
        self.subscriptions: dict[str, Subscription] = {}
        self.observes = False
        """Whether the model is told of the joins and leaves that it hears."""
        self._nodes = nodes
        self._model = model
        self._dice = dice
        self._client = ""
        self._node = 0
        self._socket: ClientConnection | None = None
        self._asked: dict[int, tuple[float, Subscription]] = {}
        self._last_id = 0
        self._left = False

    def add(self, channel: str, *, server_side: bool = False) -> None:
        self.subscriptions[channel] = Subscription(channel, server_side=server_side)

    def settled(self) -> bool:
        """Whether it has all its subscriptions."""
        return all(each.live for each in self.subscriptions.values())

    @property
    def node(self) -> int:
        """The number of the node that it is on, or was last."""
        return self._node

    def abort(self) -> None:
        """Lose the connection without a goodbye."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def leave(self) -> None:
        self._left = True
        if self._socket is not None:
            await self._socket.close()

    async def run(self) -> None:
        failures = 0
        while not self._left:
            self._node = self._dice.randrange(len(self._nodes))
            code = await self._live()
            failures = 0 if self._client else failures + 1
            self._end_all()
            if terminal(code):
                self._forget(code)
            await pace(self._backoff(failures))

    async def hurry(self) -> None:
        """Say connect on another connection, and lose it before there is an answer."""
        with suppress(OSError, TimeoutError, WebSocketException):
            async with asyncio.timeout(ANSWER):
                socket = await self._open(self._dice.randrange(len(self._nodes)))
                try:
                    token = connection_token(self.user, channels=list(self.subscriptions))
                    await self._send(socket, "connect", {"token": token})
                finally:
                    socket.transport.abort()

    # — one connection —

    async def _open(self, node: int) -> ClientConnection:
        url = self._nodes[node].ws_url
        return await connect(url, proxy=None, compression=None, max_size=None, ping_interval=None, close_timeout=1)

    async def _live(self) -> int:
        """Connect, and stay until the end; answers the code of the close."""
        try:
            async with asyncio.timeout(ANSWER):
                socket = await self._open(self._node)
        except (OSError, TimeoutError, WebSocketException):
            return 1006
        self._socket = socket
        try:
            if self._left:
                return 1000
            await self._talk(socket)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006
        except TimeoutError:
            self._model.counts["given up"] += 1
        finally:
            self._socket = None
            socket.transport.abort()
        return 1006

    async def _talk(self, socket: ClientConnection) -> None:
        """Raises ``TimeoutError`` for a connection that is dead, ``ConnectionClosed`` for one that has ended."""
        subs = {each.channel: each.request() for each in self.subscriptions.values() if each.server_side}
        request: dict[str, Any] = {"token": connection_token(self.user)}
        if recovering := {channel: body for channel, body in subs.items() if body}:
            request["subs"] = recovering
        if subs:
            request["token"] = connection_token(self.user, channels=list(subs))
        await self._send(socket, "connect", request)
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while True:
            frame = ""
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    frame = str(await socket.recv())
            now = loop.time()
            if frame:
                heard = now
                await self._take_all(socket, frame)
            limit = SILENCE if self._client else ANSWER
            if now > heard + limit or any(now > due for due, _ in self._asked.values()):
                raise TimeoutError
            for each in self.subscriptions.values() if self._client else ():
                if each.due is not None and each.due <= now and not each.server_side:
                    await self._subscribe(socket, each)

    async def _subscribe(self, socket: ClientConnection, subscription: Subscription) -> None:
        subscription.due = None
        self._membership(subscription).asked += 1
        number = await self._send(socket, "subscribe", {"channel": subscription.channel, **subscription.request()})
        self._asked[number] = (asyncio.get_running_loop().time() + ANSWER, subscription)

    async def _send(self, socket: ClientConnection, kind: str, body: dict[str, Any]) -> int:
        self._last_id += 1
        await socket.send(json.dumps({"id": self._last_id, kind: body}))
        return self._last_id

    # — what it hears —

    async def _take_all(self, socket: ClientConnection, frame: str) -> None:
        for line in frame.split("\n"):
            if message := json.loads(line):
                self._take(message)
            else:
                await socket.send("{}")

    def _take(self, message: dict[str, Any]) -> None:
        if "push" in message:
            self._pushed(message["push"])
        elif "connect" in message:
            self._connected(message["connect"])
        elif message["id"] in self._asked:
            _, subscription = self._asked.pop(message["id"])
            if "subscribe" in message:
                self._begin(subscription, message["subscribe"])
            else:
                self._refused(subscription, message["error"])
        elif "error" in message and message["error"].get("temporary"):  # of connect
            raise TimeoutError
        else:
            self._model.fault(f"{self.user} got {message}")
            raise TimeoutError

    def _connected(self, result: dict[str, Any]) -> None:
        self._client = result["client"]
        self._model.users[self._client] = self.user
        for channel, body in result.get("subs", {}).items():
            subscription = self.subscriptions[channel]
            self._membership(subscription).asked += 1
            self._begin(subscription, body)

    def _pushed(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        subscription = self.subscriptions.get(channel)
        if subscription is None:
            self._model.fault(f"{self.user} got {push}")
        elif "pub" in push:
            self._publication(subscription, push["pub"])
        elif "unsubscribe" in push:
            self._end(subscription)
            self._taken_away(subscription, push)
        elif self.observes:
            kind = "join" if "join" in push else "leave"
            self._model.seen[push[kind]["info"]["client"], channel].append(kind)

    def _taken_away(self, subscription: Subscription, push: dict[str, Any]) -> None:
        if self.observes:
            self._model.fault(f"the observer, on the calm node, was told {push}")
        again = push["unsubscribe"]["code"] >= RESUBSCRIBE
        self._model.counts["lost positions" if again else "unsubscribed"] += 1
        self._end(subscription)
        if not again:  # for good; its user asks for it anew
            subscription.position = None
        subscription.revoked = any(each is subscription for _, each in self._asked.values())
        if not subscription.revoked:  # else there will be an answer first
            self._ask_again(subscription, 0 if again else 1)

    def _begin(self, subscription: Subscription, result: dict[str, Any]) -> None:
        before, position = subscription.position, (result.get("epoch", ""), result.get("offset", 0))
        if before is not None and not result.get("recovered"):
            self._model.counts["not recovered"] += 1
        elif before is not None and before != position:
            self._fault(subscription, f"recovered from {before} to {position}")
        self._model.counts["subscribed"] += 1
        subscription.live, subscription.position, subscription.failures = True, position, 0
        subscription.revoked = False
        self._membership(subscription).live = True
        for publication in result.get("publications", []):
            self._publication(subscription, publication)

    def _refused(self, subscription: Subscription, error: dict[str, Any]) -> None:
        self._membership(subscription).ended += 1  # it may have joined, and left again
        if not error.get("temporary") and not (subscription.revoked and error["code"] == DENIED):
            self._fault(subscription, f"refused with {error}")
        subscription.revoked = False
        subscription.failures += 1
        self._ask_again(subscription, subscription.failures)

    def _publication(self, subscription: Subscription, publication: dict[str, Any]) -> None:
        offset, name = publication.get("offset", 0), publication["data"]
        if not subscription.live or subscription.position is None:
            self._fault(subscription, f"got {name} at {offset} without a subscription")
            return
        epoch, last = subscription.position
        if offset != last + 1:
            self._fault(subscription, f"got {name} at {offset} after {last}")
        subscription.position = epoch, offset
        self._model.hear(self.user, subscription.channel, subscription.position, name)

    # — ends —

    def _end(self, subscription: Subscription) -> None:
        if not subscription.live:  # the server may say so of what there is not
            return
        subscription.live = False
        member = self._membership(subscription)
        member.ended += 1
        member.live = False

    def _end_all(self) -> None:
        """The connection is lost."""
        if self.observes and not self._left:
            self._model.fault("the observer, on the calm node, has lost its connection")
        for _, subscription in self._asked.values():
            self._membership(subscription).ended += 1
        self._asked.clear()
        for subscription in self.subscriptions.values():
            self._end(subscription)
            self._ask_again(subscription, 0)
        self._client = ""

    def _forget(self, code: int) -> None:
        """A client that is sent away for good; its user opens the page again."""
        self._model.counts["sent away"] += 1
        if code != KICKED:
            self._model.fault(f"{self.user} was told {code}, never to come back")
        for subscription in self.subscriptions.values():
            subscription.position = None

    def _ask_again(self, subscription: Subscription, failures: int) -> None:
        subscription.due = asyncio.get_running_loop().time() + (self._backoff(failures) if failures else 0.0)

    def _backoff(self, failures: int) -> float:
        return self._dice.uniform(0.05, min(LONGEST, 0.2 * 2.0**failures))

    def _membership(self, subscription: Subscription) -> Any:
        return self._model.member(self._client, subscription.channel, self._node)

    def _fault(self, subscription: Subscription, text: str) -> None:
        self._model.fault(f"{self.user}, {subscription.channel}, node {self._node}: {text}")
