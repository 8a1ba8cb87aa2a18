"""One client's connection: what it may say in which state, and what the gateway does then."""

from gateway.session.base import Handshake, State, Transport
from gateway.session.session import FAIR, Session

__all__ = ["FAIR", "Handshake", "Session", "State", "Transport"]
