"""One client's connection: what it may say in which state, and what the gateway does then."""

from gateway.session.application import NO_APPLICATION, Application, NoApplication
from gateway.session.base import Handshake, Transport
from gateway.session.dispatch import FAIR, ClientSession
from gateway.session.life import State
from gateway.session.pusher import PusherSession
from gateway.session.rejections import tell
from gateway.session.session import Session

Speaking = ClientSession | PusherSession
"""A session that takes what its client sends, frame by frame."""

__all__ = [
    "FAIR",
    "NO_APPLICATION",
    "Application",
    "ClientSession",
    "Handshake",
    "NoApplication",
    "PusherSession",
    "Session",
    "Speaking",
    "State",
    "Transport",
    "tell",
]
