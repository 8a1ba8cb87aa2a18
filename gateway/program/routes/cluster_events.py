"""What a program does for a channel once for all nodes: live sources, and hearing that it is occupied or vacated."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from gateway.brokers.base import PublishOptions
from gateway.core.node import Node
from gateway.errors import Error
from gateway.leases.base import Leases
from gateway.occupancy.base import Occupancy
from gateway.program.channel_lanes import ChannelLanes
from gateway.program.encoding import encode_publication
from gateway.program.live import Factory, LiveSources
from gateway.program.occupancy_watch import OccupancyWatch
from gateway.program.routes import events
from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.program import Program
from gateway.program.routes.signatures import Event

Tell = Callable[[str, Event], Awaitable[None]]
Told = Callable[[Tell], Tell]

EVENTS = (events.OCCUPIED, events.VACATED, events.LIVE)


class ClusterEvents:
    """Watches the feeds of one node on behalf of the routes that have such handlers. Others cost nothing."""

    def __init__(
        self, program: Program, node: Node, leases: Leases, occupancy: Occupancy, told: Told = lambda tell: tell
    ) -> None:
        """``told`` gives what stands around the telling of an event."""
        self._program = program
        self._node = node
        self._routes = {each.route.key: each for each in program.channels if _handles(each, EVENTS)}
        self._live = LiveSources(node.uid, leases, self._publish, self._factory)
        self._lanes = ChannelLanes(told(self._call), node.spawn)
        self._occupancy = OccupancyWatch(occupancy, self._is_tracked, self, self._lanes.idle)

    async def start(self) -> None:
        if self._routes:
            await self._occupancy.start(self._node.uid)
            await self._live.start()
            self._node.feeds.watchers += [self._occupancy, self._live]

    async def stop(self) -> None:
        if self._routes:
            await self._live.stop()
            await self._occupancy.close()

    def on_occupied(self, channel: str) -> None:
        self._live.on_occupied(channel)
        self._tell(channel, events.OCCUPIED)

    def on_vacated(self, channel: str) -> None:
        self._tell(channel, events.VACATED)

    def _tell(self, channel: str, event: Event) -> None:
        route = self._route(channel)
        if route is not None and _handles(route, (events.OCCUPIED, events.VACATED)):
            self._lanes.tell(channel, event)

    async def _call(self, channel: str, event: Event) -> None:
        route = self._route(channel)
        if route is not None and (handler := route.handlers.get(event.name)):
            params = route.pattern.match(channel) or {}
            route.make_current()
            began = self._node.wheel.clock()
            try:
                await handler(self._program.nobody(params), b"", self._node.spawn)
            finally:
                self._node.metrics.handler_time[event.name].observe(self._node.wheel.clock() - began)

    def _factory(self, channel: str) -> Factory | None:
        route = self._route(channel)
        handler = route.handlers.get(events.LIVE.name) if route else None
        if route is None or handler is None:
            return None

        def make(channel: str) -> AsyncGenerator[Any, None]:
            params = route.pattern.match(channel) or {}
            route.make_current()
            return handler.iterate(self._program.nobody(params), self._node.spawn)

        return make

    def _is_tracked(self, channel: str) -> bool:
        return self._route(channel) is not None

    async def _publish(self, name: str, item: Any, fence: str) -> None:
        channel = self._node.channels.resolve(name)
        await self._node.publish(channel, encode_publication(item), PublishOptions(fence=fence))

    def _route(self, name: str) -> ChannelRoute[Any] | None:
        try:
            route = self._node.channels.resolve(name).route
        except Error:  # of another node's program, in a rolling deploy
            return None
        return self._routes.get(route.key) if route is not None else None


def _handles(route: ChannelRoute[Any], wanted: Sequence[Event]) -> bool:
    return any(event.name in route.handlers for event in wanted)
