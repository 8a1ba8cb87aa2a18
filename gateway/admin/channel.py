"""A channel: the options that hold for it, and how many subscribe on which node."""

from gateway.admin.messages import ChannelResult, Subscribers
from gateway.core.node import Node
from gateway.errors import Error, ErrorCode
from gateway.web.api_messages import ChannelRequest

CHANNEL = "admin.channel"
"""The question."""


async def channel(node: Node, request: ChannelRequest) -> ChannelResult:
    if not request.channel:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: channel must be given")
    found = node.channels.resolve(request.channel)
    told = await node.cluster.ask(CHANNEL, found.name, read=int)
    names = {info.uid: info.name for info in node.cluster.nodes()}
    counts = [Subscribers(uid, names.get(uid, ""), count) for uid, count in told.answers.items()]
    return ChannelResult(
        channel=found.name,
        namespace=found.namespace if found.route is None else None,
        route=found.route.text if found.route is not None else None,
        options=found.options.model_dump(mode="json", exclude={"name"}),
        subscribers=sorted(counts, key=lambda each: (-each.count, each.name)),
        missing=told.missing,
    )


async def tell_channel(node: Node, name: str) -> bytes:
    return b"%d" % node.hub.subscribers(name)
