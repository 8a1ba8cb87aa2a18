"""Clients of the Pusher protocol: what they may say, and what the gateway does then."""

from gateway.session.pusher.dispatch import PusherSession
from gateway.session.pusher.hooks import Hooks
from gateway.session.pusher.shared import Shared

__all__ = ["Hooks", "PusherSession", "Shared"]
