"""The routes of the HTTP API: ``/apps/{id}/events`` and the others, at the root, where libraries call them.

Source: Pusher Channels protocol, "HTTP API".
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.routing import Route

from gateway.apps.base import Apps
from gateway.core.node import Node
from gateway.errors import Error
from gateway.web.api import Around, Endpoint, unchanged
from gateway.web.bodies import json_response
from gateway.web.pusher.calls import Call, failure, read_call, refused
from gateway.web.pusher.publishing import batch_events, events
from gateway.web.pusher.state import channel, channels, connections, terminate, users


class _Method(NamedTuple):
    """One of what a backend may call: its name is for operators, in metrics, logs and traces."""

    name: str
    verb: str
    path: str
    call: Callable[[Node, Call], Awaitable[Any]]


METHODS = (
    _Method("pusher_events", "POST", "/apps/{app_id}/events", events),
    _Method("pusher_batch_events", "POST", "/apps/{app_id}/batch_events", batch_events),
    _Method("pusher_channels", "GET", "/apps/{app_id}/channels", channels),
    _Method("pusher_channel", "GET", "/apps/{app_id}/channels/{channel}", channel),
    _Method("pusher_users", "GET", "/apps/{app_id}/channels/{channel}/users", users),
    _Method("pusher_terminate", "POST", "/apps/{app_id}/users/{user}/terminate_connections", terminate),
    # as the library for Python has it, which names the app by its key alone
    _Method("pusher_terminate", "POST", "/users/{user}/terminate_connections", terminate),
    _Method("pusher_connections", "GET", "/apps/{app_id}/connections", connections),
)


def pusher_router(node: Callable[[], Node], apps: Callable[[], Apps], around: Around = unchanged) -> APIRouter:
    """All of it; ``node`` and ``apps`` are asked for with each request."""
    router = APIRouter()
    for method in METHODS:
        router.routes.append(Route(method.path, _endpoint(node, apps, method, around), methods=[method.verb]))
    router.routes.append(Route("/up", _up, methods=["GET"]))
    return router


async def _up(_request: Request) -> Response:
    """For those who ask whether it serves, as they ask others."""
    return json_response({"health": "OK"})


def _endpoint(node: Callable[[], Node], apps: Callable[[], Apps], method: _Method, around: Around) -> Endpoint:
    answer = around(method.name, _measured(node, method))

    async def endpoint(request: Request) -> Response:
        try:
            call = await read_call(node(), apps(), request, method.path)
        except Error as error:
            return refused(node(), request, method.name, error)
        return await answer(call, request)

    return endpoint


def _measured(node: Callable[[], Node], method: _Method) -> Callable[[Any, Request], Awaitable[Response]]:
    """Answers a call; its time is kept, and its errors are counted, as those of the server API are."""

    async def answer(call: Call, _request: Request) -> Response:
        here = node()
        began = here.wheel.clock()
        try:
            return json_response(await method.call(here, call))
        except Error as error:
            here.metrics.api_errors[method.name, error.code] += 1
            return failure(error)
        finally:
            here.metrics.api_time[method.name].observe(here.wheel.clock() - began)

    return answer
