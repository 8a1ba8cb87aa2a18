"""Where a client is said to come from, and who is believed."""

from typing import Any

import pytest

from gateway.transports.address import Proxies, address_of, proxies


@pytest.mark.parametrize(
    ("listed", "host", "forwarded", "client"),
    [
        ("127.0.0.1", "127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.1", "203.0.113.9", "203.0.113.1"),
        ("", "127.0.0.1", "203.0.113.9", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 10.0.0.0/8", "127.0.0.1", "6.6.6.6, 203.0.113.9,10.1.2.3", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("*", "198.51.100.1", "6.6.6.6, 203.0.113.9", "6.6.6.6"),
        ("127.0.0.1", "127.0.0.1", "made up\n, unknown", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "made up, 2001:db8::1", "2001:db8::1"),
        ("fd00::/8", "fd00::1", "2001:db8::1", "2001:db8::1"),
        ("a/name, 127.0.0.1", "unix", "203.0.113.9", "unix"),
    ],
)
def test_who_is_believed(listed: str, host: str, forwarded: str, client: str) -> None:
    assert Proxies(listed).client(host, forwarded) == client


def test_a_list_is_read_once() -> None:
    assert proxies("127.0.0.1") is proxies("127.0.0.1")


@pytest.mark.parametrize(
    ("scope", "address"), [({}, ""), ({"client": None}, ""), ({"client": ("203.0.113.9", 1)}, "203.0.113.9")]
)
def test_the_address_in_a_scope(scope: dict[str, Any], address: str) -> None:
    assert address_of(scope) == address
