"""Clients of the Pusher protocol: what they may say, and what the gateway does then."""

from gateway.session.pusher.counting import tell_counts
from gateway.session.pusher.dispatch import PusherSession
from gateway.session.pusher.shared import Shared

__all__ = ["PusherSession", "Shared", "tell_counts"]
