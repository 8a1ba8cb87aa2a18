"""The kit: an application with its gateway, run in process, and clients of it."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
from msgspec import Raw

from gateway.auth.tokens import sign_connection, sign_subscription
from gateway.program.encoding import encode_data
from gateway.program.gateway import Gateway
from gateway.testing.apps import Source, make_apps
from gateway.testing.call import UpgradeRequest
from gateway.testing.client import Client
from gateway.testing.clock import Clock
from gateway.testing.cluster import Cluster, VirtualNode
from gateway.testing.outages import BrokerSwitch
from gateway.testing.peer import Peer
from gateway.testing.socket import Socket

DEADLINE = 2.0
"""Seconds of real time for which a test waits: far longer than anything takes here."""

NOTHING: Mapping[str, str] = {}


class Kit:
    """Runs an application and its gateway for the length of a block, without sockets and under a clock of its own ::

        async with Kit(app) as kit:
            ann = await kit.connect(token="ann")
            room = await ann.subscribe("chat:lobby")
            await ann.publish("chat:lobby", {"text": "hi"})
            assert (await room.next()).data == {"text": "hi"}

    With ``nodes=2`` several nodes run side by side, joined as by Redis; then the first argument is a function that
    makes an application, or where to import it, as ``"chat:app"``. The engine of the settings is not used: it is
    memory, or Redis with ``redis_url``. ``deadline`` is how long, in seconds of real time, a test waits for anything.
    """

    def __init__(self, app: Source, *, nodes: int = 1, redis_url: str = "", deadline: float = DEADLINE) -> None:
        self._cluster = Cluster(make_apps(app, nodes), redis_url, deadline)
        self._deadline = deadline
        self._peers: list[Peer] = []
        self.broker = BrokerSwitch([node.link for node in self._cluster.nodes])
        """Takes the broker away, and gives it back."""

    @property
    def clock(self) -> Clock:
        """The time of all nodes."""
        return self._cluster.clock

    @property
    def nodes(self) -> list[VirtualNode]:
        """Each with its ``app``, ``gateway`` and ``http``."""
        return self._cluster.nodes

    @property
    def gateway(self) -> Gateway:
        """That of the first node."""
        return self.nodes[0].gateway

    @property
    def http(self) -> httpx.AsyncClient:
        """For the application's HTTP routes, on the first node. Responses without an end do not end here."""
        return self.nodes[0].http

    async def connect(
        self,
        *,
        token: str = "",
        data: Any = None,
        headers: Mapping[str, str] = NOTHING,
        cookies: Mapping[str, str] = NOTHING,
        query: Mapping[str, str] = NOTHING,
        node: int = 0,
        path: str = "",
        name: str = "",
    ) -> Client:
        """Connect a client as the SDKs do; ``name`` is for messages of failures.

        Raises `Refused` (an error answers), `Disconnected` (a handler closes), `Rejected` (the handshake is refused).
        """
        handshake = UpgradeRequest(path or self.nodes[node].path(), query, headers, cookies)
        request: dict[str, Any] = {"token": token, "name": "kit"}
        if data is not None:
            request["data"] = Raw(encode_data(data))
        client = Client(name or self._name("client"), self._cluster, node, self._deadline, handshake, request)
        self._peers.append(client)
        await client.connect()
        return client

    async def websocket(
        self,
        path: str,
        *,
        headers: Mapping[str, str] = NOTHING,
        cookies: Mapping[str, str] = NOTHING,
        query: Mapping[str, str] = NOTHING,
        subprotocols: tuple[str, ...] = (),
        node: int = 0,
        name: str = "",
    ) -> Socket:
        """Open a WebSocket to a route of the application. Raises `Disconnected`; as `Rejected`, if before accept."""
        socket = Socket(name or self._name("socket"), self._cluster, node, self._deadline)
        self._peers.append(socket)
        await socket.open(UpgradeRequest(path, query, headers, cookies, subprotocols))
        return socket

    def token(self, user: str, *, channel: str = "", ttl: float = 0, **claims: Any) -> str:
        """A connection token by the gateway's own secret, or one for a channel; ``ttl`` 0 is for ever.

        Raises ``LookupError`` if ``client.token.hmac_secret_key`` is not set.
        """
        secret = self.gateway.settings.client.token.signing_secret
        if not secret:
            raise LookupError(
                "the gateway has no secret to sign with: set client.token.hmac_secret_key, for example "
                'Settings(client={"token": {"hmac_secret_key": "…"}})'
            )
        if channel:
            return sign_subscription(secret, user, channel, ttl, self.clock(), **claims)
        return sign_connection(secret, user, ttl, self.clock(), **claims)

    async def wait_idle(self) -> None:
        """Return when all that clients have sent is done, and what was published has been delivered."""
        await self._cluster.wait_idle()

    async def __aenter__(self) -> Self:
        await self._cluster.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Stop. Raises what has gone wrong with a client or its route and was not waited for."""
        for peer in self._peers:
            await peer.cease()
        await self._cluster.stop()
        if error is None:
            for peer in self._peers:
                peer.check()

    def _name(self, kind: str) -> str:
        return f"{kind} {len(self._peers) + 1}"
