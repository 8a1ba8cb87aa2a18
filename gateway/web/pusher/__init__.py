"""The HTTP API of the Pusher protocol, for backends: events, and who is where.

Source: Pusher Channels protocol, "HTTP API".
"""

from gateway.web.pusher.attributes import answer_counts
from gateway.web.pusher.events import publish_event
from gateway.web.pusher.router import pusher_router

__all__ = ["answer_counts", "publish_event", "pusher_router"]
