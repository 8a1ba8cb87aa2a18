"""Whose budget it is when the declaration does not say."""

from typing import Any

import pytest
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser
from starlette.requests import HTTPConnection

from gateway.limits.caller import caller


class Client(HTTPConnection):
    """As in a channel's handler: it has a user of its own."""

    def __init__(self, user: str, /, **scope: Any) -> None:
        super().__init__({"type": "websocket", "client": ("192.0.2.1", 5000), **scope})
        self.id = "c1"
        self._user = user

    @property
    def user(self) -> str:
        return self._user


class Named(BaseUser):
    """A user that has a display name alone."""

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return "Ann"


def connection(host: str | None = "192.0.2.1", **scope: Any) -> HTTPConnection:
    return HTTPConnection({"type": "http", "client": None if host is None else (host, 5000), **scope})


@pytest.mark.parametrize(
    ("from_", "key"),
    [
        (Client("ann"), "user:ann"),
        (Client("ann", user=SimpleUser("bob")), "user:ann"),
        (Client(""), "ip:192.0.2.1"),
        (connection(user=SimpleUser("ann")), "user:ann"),
        (connection(user=Named()), "user:Ann"),
        (connection(user="ann"), "user:ann"),
        (connection(user=UnauthenticatedUser()), "ip:192.0.2.1"),
        (connection(user=object()), "ip:192.0.2.1"),
        (connection(user=None), "ip:192.0.2.1"),
        (connection(), "ip:192.0.2.1"),
        (connection("2001:db8:1:2:3:4:5:6"), "ip:2001:db8:1:2::/64"),
        (connection("2001:db8:1:2:ffff::1"), "ip:2001:db8:1:2::/64"),
        (connection("::ffff:192.0.2.1"), "ip:192.0.2.1"),
        (connection("fe80::1%eth0"), "ip:fe80::/64"),
        (connection("testclient"), "ip:testclient"),
        (connection(None), "ip:"),
    ],
)
def test_caller(from_: HTTPConnection, key: str) -> None:
    assert caller(from_) == key
