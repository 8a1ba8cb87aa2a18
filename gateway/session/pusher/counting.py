"""Subscription counts, for the backends that want to be told of them."""

from gateway.apps.base import Apps
from gateway.core.node import Node


def tell_counts(node: Node, apps: Apps) -> None:
    """Tell an app's backend of each count that this node's clients are told."""

    def told(channel: str, count: int) -> None:
        app = apps.of_channel(channel)
        if app is not None and app.settings.enable_subscription_counts:
            node.hooks.subscription_count(app, app.names.outside(channel), count)

    node.rosters.counts.on_count = told
