"""How the nodes are, in figures that each tells of itself."""

from typing import Any

import msgspec

from gateway.admin.messages import Counts, NodeShown, NodesResult, Nothing, Reason
from gateway.core.node import Node
from gateway.metrics import Histogram
from gateway.protocols.centrifuge_json import encode
from gateway.web.health import find_conditions, status_of
from gateway.web.process import read_process
from gateway.web.workers import apart

NODE = "admin.node"
"""The question."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode  # another release may tell more, or less


async def nodes(node: Node, _request: Nothing) -> NodesResult:
    told = await node.cluster.ask(NODE, read=_decode)
    names = {info.uid: info.name for info in node.cluster.nodes()}
    in_order = sorted(told.answers, key=lambda uid: (names.get(uid, ""), uid))
    return NodesResult([told.answers[uid] for uid in in_order], told.missing)


async def tell_node(node: Node, _argument: str = "") -> bytes:
    """A node's own figures."""
    return encode(await show_node(node))


async def show_node(node: Node) -> NodeShown:
    process = await apart(read_process)
    about, metrics, conditions = node.describe(), node.metrics, find_conditions(node)
    return NodeShown(
        uid=about.uid,
        name=about.name,
        version=about.version,
        uptime=about.uptime,
        status=status_of(conditions),
        reasons=[Reason(each.reason, each.detail) for each in conditions],
        connections=about.num_clients,
        users=about.num_users,
        subscriptions=about.num_subs,
        channels=about.num_channels,
        connection_limit=node.settings.client.connection_limit,
        rss=process.resident,
        cpu=process.seconds,
        descriptors=process.descriptors,
        descriptor_limit=process.most,
        publications_in=metrics.publications_in,
        publications_out=metrics.publications_out,
        deliveries=metrics.deliveries,
        bytes_in=metrics.bytes_in,
        bytes_out=metrics.bytes_out,
        slow=len(metrics.slow),
        queued=metrics.queued,
        loop_lag=_counts(metrics.loop_lag),
        delivery_lag=_counts(metrics.delivery_lag),
        at=node.clock(),
    )


def _counts(histogram: Histogram) -> Counts:
    return Counts(histogram.bounds, histogram.counts)
