"""What the page may ask for: the server API's methods, and those that are made for it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from msgspec import Raw

from gateway.admin import messages, recording
from gateway.admin.channel import CHANNEL, channel, tell_channel
from gateway.admin.connections import CONNECTIONS, connections, tell_connections
from gateway.admin.detail import CLOSE, CONNECTION, close, connection, tell_closed, tell_connection
from gateway.admin.nodes import NODE, nodes, tell_node
from gateway.config.listing import list_settings
from gateway.core.node import Node
from gateway.web import api_messages as api
from gateway.web import methods
from gateway.web.methods import Method


async def settings(node: Node, _request: messages.Nothing) -> messages.SettingsResult:
    """Of the node that is asked."""
    return messages.SettingsResult(list_settings(node.settings))


METHODS: Mapping[str, Method] = {
    **methods.METHODS,
    "nodes": Method(messages.Nothing, messages.NodesResult, nodes),
    "connections": Method(messages.ConnectionsRequest, messages.ConnectionsResult, connections),
    "connection": Method(messages.ConnectionRequest, Raw, connection),
    "close": Method(messages.CloseRequest, api.Done, close),
    "channel": Method(api.ChannelRequest, messages.ChannelResult, channel),
    "record": Method(recording.RecordRequest, recording.RecordResult, recording.record),
    "recordings": Method(messages.Nothing, recording.RecordingsResult, recording.recordings),
    "recording": Method(recording.RecordingRequest, recording.RecordingResult, recording.recording),
    "settings": Method(messages.Nothing, messages.SettingsResult, settings),
}

ANSWERS: Mapping[str, Callable[[Node, str], Awaitable[bytes]]] = {
    NODE: tell_node,
    CONNECTIONS: tell_connections,
    CONNECTION: tell_connection,
    CLOSE: tell_closed,
    CHANNEL: tell_channel,
}
"""What every node answers another's page, by the kind of the question."""


def answer_pages(node: Node) -> None:
    """Have a node answer what the page of any node asks."""
    for kind, answer in ANSWERS.items():
        node.answers[kind] = partial(answer, node)
    recording.install(node)
