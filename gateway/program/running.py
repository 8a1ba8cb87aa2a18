"""The composition root of a program's gateway: settings and the program in, what runs of it out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateway.admin.methods import answer_pages
from gateway.apps.loaded import LoadedApps, open_apps
from gateway.apps.static import StaticApps
from gateway.auth.tokens import TokenVerifier
from gateway.config.settings import Settings
from gateway.core.node import Node
from gateway.program.engine import Environment
from gateway.program.joined import join
from gateway.program.routes.client import kept
from gateway.program.routes.cluster_events import ClusterEvents
from gateway.program.routes.listening import Listeners
from gateway.program.routes.program import Program
from gateway.program.routes.rules import stream_rules
from gateway.program.routes.streams import Streams, unnamed
from gateway.program.sharing import check_sharing
from gateway.program.sockets.attaching import Sockets
from gateway.program.stopping import on_stop
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobuf
from gateway.proxies import open_proxies
from gateway.session import NO_APPLICATION
from gateway.session.pusher import Shared, terminating
from gateway.tracing import open_tracing
from gateway.transports.base import Acceptor
from gateway.transports.endpoint import WebSocketEndpoint
from gateway.transports.hint import hint_at_server
from gateway.transports.pusher_endpoint import PusherEndpoint
from gateway.transports.uni_websocket import UniWebSocketEndpoint
from gateway.web.pusher import answer_counts
from gateway.web.workers import telling
from gateway.webhooks import open_webhooks


class Running:
    """A node with all that belongs to it, from one start to the next stop."""

    apps: StaticApps | LoadedApps
    """Those of the Pusher protocol, where it is served."""

    def __init__(self, settings: Settings, program: Program, same_origin: bool, environment: Environment) -> None:
        self.started = False
        self.drained_by_server = False
        """Whether the server says when to ``drain``, so that signals are left to it."""
        self.environment = environment
        self.engine = environment.engine(settings)
        tracing = self.tracing = open_tracing(settings, lambda: self.node)
        routes = self._routes = [
            *([unnamed()] if program.decides else []),
            *(each.route for each in program.channels),
        ]
        proxies = self._proxies = open_proxies(settings, lambda: self.node)
        webhooks = self._webhooks = open_webhooks(
            settings.pusher,
            self.engine.outbox,
            self.engine.leases,
            lambda: self.node,
            lambda: self.apps,
            unnamed=program.load_app is not None,
        )
        self.node = Node(
            settings,
            tracing.broker(self.engine.broker),
            webhooks.presence(self.engine.presence) if webhooks else self.engine.presence,
            blocks=self.engine.blocks,
            presence_servers=self.engine.presence_servers,
            maps=self.engine.maps,
            clock=environment.clock,
            wheel=environment.wheel(),
            routes=[tracing.route(each) for each in routes],
            ask=proxies.channels if proxies else None,
        )
        if proxies:
            proxies.start()
            self.node.polls.fetch = proxies.poll
        answer_pages(self.node)
        answer_counts(self.node)
        self.node.limiter.store = self.engine.limits
        self.engine.set_rules(stream_rules(settings, routes))
        self.tokens = TokenVerifier(
            settings.client, environment.clock, self.node.wheel.clock, self.node.metrics.jwks_fetches
        )
        self.node.conditions.append(self.tokens.condition)
        self.streams = program.streams = Streams(self.node)
        self.listeners = Listeners(self.node, program.types)
        self.cluster_events = ClusterEvents(program, self.node, self.engine.leases, self.engine.occupancy, tracing.told)
        keep: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = proxies.keep if proxies else None
        self.application = join(tracing.application(program) if program.decides else None, proxies) or NO_APPLICATION
        self.acceptor = Acceptor(
            self.node,
            self.tokens,
            self.application,
            kept if program.decides else keep,
            same_origin=same_origin,
        )
        self.node.isolation.move = self.acceptor.move
        self.node.conditions.append(self.acceptor.condition)
        self.sockets = Sockets(self.acceptor, self.node, self.tokens)
        json, protobuf = CentrifugeJson(), CentrifugeProtobuf()
        protocols: Mapping[str, Any] = {"": json, json.name: json, protobuf.name: protobuf}
        formats = {"protobuf": protobuf}
        self.websocket = WebSocketEndpoint(self.acceptor, protocols, settings, self.node.wheel, formats)
        self.uni_websocket = UniWebSocketEndpoint(self.acceptor, CentrifugeJsonUni(), settings)
        self.pusher: PusherEndpoint | None = None
        if settings.pusher.enabled:
            self.apps = open_apps(
                settings.pusher,
                program.load_app,
                settings.channel.namespace_boundary,
                clock=self.node.wheel.clock,
                refusals=self.node.refusals,
            )
            self.pusher = PusherEndpoint(self.acceptor, self.apps, Shared(self.node, webhooks), settings)
            terminating.listen(self.node)

    def reload(self, settings: Settings) -> None:
        """Tell each part that keeps something made of settings. Raises `SettingsError`, and nothing has changed."""
        self.tokens.reload(settings.client)  # the one that may refuse
        if self.started:
            self.tokens.fetch_keys()
        self.node.reload(settings)
        self.engine.set_rules(stream_rules(settings, self._routes))
        self.acceptor.reload()
        if self.pusher is not None:
            self.apps.reload(settings.pusher)
            terminating.close_gone(self.node, self.apps)
        if self._webhooks:
            self._webhooks.reload()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self.started = True
            self.node.loop = asyncio.get_running_loop()
            stack.push_async_callback(self.tracing.close)
            stack.callback(self.tokens.close)
            self.tokens.fetch_keys()
            stack.push_async_callback(self.engine.close)
            if self._proxies:
                stack.push_async_callback(self._proxies.close)
            await self.engine.start()
            await self.node.start()
            stack.push_async_callback(self.node.stop)
            if self._webhooks:
                await self._webhooks.start()
                stack.push_async_callback(self._webhooks.close)
            prometheus = self.node.settings.prometheus
            if prometheus.enabled and prometheus.directory:
                await stack.enter_async_context(telling(self.node, prometheus.directory))
            await self.cluster_events.start()
            stack.push_async_callback(self.cluster_events.stop)
            stack.push_async_callback(self.streams.close)
            stack.callback(self.listeners.close)
            # ASGI would tell of the end only when all connections have ended
            if not self.drained_by_server:
                stack.enter_context(on_stop(self._told_to_stop))
            if self.environment == Environment():  # a test kit brings its own, and no server
                hint_at_server()
                check_sharing(self.node)
            yield

    def _told_to_stop(self) -> None:
        """End what has no end by itself, and send clients elsewhere."""
        self.node.draining = True
        self.listeners.close()
        self.node.spawn(self._drain())

    async def _drain(self) -> None:
        await self.streams.close()  # first: their readers are told while they are here
        await self.acceptor.drain()
