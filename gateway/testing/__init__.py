"""A kit for the tests of programs: real protocol, real sessions and hub, in process and under a clock of its own."""

from gateway.testing.client import Client
from gateway.testing.clock import Clock
from gateway.testing.kit import Kit
from gateway.testing.outages import BrokerSwitch
from gateway.testing.outcomes import Disconnected, Late, Refused, Rejected, Unexpected
from gateway.testing.redis import fake_redis
from gateway.testing.socket import Socket
from gateway.testing.subscription import Publication, Subscription

__all__ = [
    "BrokerSwitch",
    "Client",
    "Clock",
    "Disconnected",
    "Kit",
    "Late",
    "Publication",
    "Refused",
    "Rejected",
    "Socket",
    "Subscription",
    "Unexpected",
    "fake_redis",
]
