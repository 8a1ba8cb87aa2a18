"""A route as the session sees it: the channels of a pattern, and what the program does in them."""

from collections.abc import Callable
from typing import Any

from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.messages import Payload, Publication, SubRefreshRequest, SubscribeRequest
from gateway.program.encoding import encode_data
from gateway.program.routes.options import SUBSCRIBERS, Who
from gateway.program.routes.patterns import Pattern
from gateway.program.typed import UNTYPED
from gateway.session import Session


class Route:
    """Satisfies `channels.Route` and `session.application.Route`. What is None leaves it to the options."""

    def __init__(
        self, pattern: Pattern, options: ChannelOptions, publish: Who = SUBSCRIBERS, read: Who = SUBSCRIBERS
    ) -> None:
        self.key = f"route:{pattern.text}"
        self.text = pattern.text
        self.expression = pattern.expression
        self.options = options
        self.match = pattern.match
        self.types = UNTYPED
        """How the program reads what its channels hold."""
        self.encode: Callable[[Any], Payload] = encode_data
        """How values of the program are written down: cut to the channel's ``message``, if it has one."""
        self.publish_unsubscribed = publish == "anyone"
        self.read_unsubscribed = read == "anyone"
        self.subscribe: Callable[[Session, Channel, SubscribeRequest], Any] | None = None
        self.refresh: Callable[[Session, Channel, SubRefreshRequest], Any] | None = None
        self.renew: Callable[[Session, Channel], Any] | None = None
        self.server_side = True
        self.publish: Callable[[Session, Channel, Publication], Any] | None = None
        self.map_publish: Callable[[Session, Channel, Publication], Any] | None = None
        self.map_remove: Callable[[Session, Channel, Publication], Any] | None = None
        self.presence: Callable[[Session, Channel], Any] | None = None
        self.history: Callable[[Session, Channel], Any] | None = None
        self.unsubscribe: Callable[[Session, Channel], Any] | None = None
        self.cache_empty: Callable[[Session, Channel], Any] | None = None
