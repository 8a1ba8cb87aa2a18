"""One client's connection: what it may say in which state, and what the gateway does then."""

from gateway.session.application import Application
from gateway.session.base import Handshake, State, Transport
from gateway.session.session import FAIR, NO_APPLICATION, Session

__all__ = ["FAIR", "NO_APPLICATION", "Application", "Handshake", "Session", "State", "Transport"]
