"""What of a chain of proxies is believed, and what counts as one address."""

from typing import Any

import pytest

from gateway.limits.addresses import Network, Proxies, network_of


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    return {"client": None if peer is None else (peer, 5000), "headers": [(b"host", b"x"), *headers]}


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("8.8.8.8", Network("8.8.8.8", True)),
        ("10.1.2.3", Network("10.1.2.3", False)),
        ("127.0.0.1", Network("127.0.0.1", False)),
        ("100.64.0.1", Network("100.64.0.1", False)),
        ("::ffff:8.8.8.8", Network("8.8.8.8", True)),
        ("2a00:1450:4001:81b::200e", Network("2a00:1450:4001:81b::/64", True)),
        ("2a00:1450:4001:81b:ffff:ffff:ffff:ffff", Network("2a00:1450:4001:81b::/64", True)),
        ("fd00::1", Network("fd00::/64", False)),
        ("fe80::1%eth0", Network("fe80::/64", False)),
        ("testclient", Network("testclient", False)),
        ("", Network("", False)),
    ],
)
def test_networks(host: str, network: Network) -> None:
    assert network_of(host) == network


PROXIES = "127.0.0.1, 10.0.0.0/8,2001:db8:ffff::/48"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),  # the first is what the client says of itself
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),  # all of them are ours
        ("10.0.0.1", ["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),  # who wrote "unknown" is as far as is known
        ("10.0.0.1", ["6.6.6.6, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1:1234"], "1.1.1.1"),
        ("10.0.0.1", ["[2a00:1450::1]:1234"], "2a00:1450::1"),
        ("10.0.0.1", ["[2a00:1450::1]"], "2a00:1450::1"),
        ("10.0.0.1", ["2a00:1450::1"], "2a00:1450::1"),
        ("10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1\xff"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["1.1.1.1"], "1.1.1.1"),  # a socket that hears both
        ("2001:db8:ffff:1::1", ["1.1.1.1"], "1.1.1.1"),
        ("2001:db8:fffe:1::1", ["1.1.1.1"], "2001:db8:fffe:1::1"),
        (None, ["1.1.1.1"], ""),  # who is reset before it was asked for its name
        ("unix", ["1.1.1.1"], "1.1.1.1"),
        (None, [], ""),
        ("testclient", ["1.1.1.1"], "testclient"),
    ],
)
def test_who_is_at_the_other_end(peer: str | None, forwarded: list[str], client: str) -> None:
    assert Proxies(PROXIES).client(scope(peer, *forwarded)) == client


@pytest.mark.parametrize("trusted", ["*", "127.0.0.1, *"])
def test_who_trusts_everybody_believes_the_nearest_proxy_alone(trusted: str) -> None:
    proxies = Proxies(trusted)
    assert proxies.client(scope("8.8.8.8", "6.6.6.6, 1.1.1.1")) == "1.1.1.1"
    assert proxies.client(scope("8.8.8.8")) == "8.8.8.8"


def test_who_trusts_nobody_believes_no_header() -> None:
    assert Proxies("").client(scope("127.0.0.1", "1.1.1.1")) == "127.0.0.1"


def test_peers_that_a_server_names_by_a_word() -> None:
    assert Proxies("unix:, 10.0.0.1").client(scope("unix:", "1.1.1.1")) == "1.1.1.1"


def test_unix_sockets_of_other_servers() -> None:
    asked = {**scope(None, "1.1.1.1"), "server": ("/run/app.sock", None)}
    assert Proxies("").client(asked) == "1.1.1.1"
    assert Proxies("").client({**asked, "server": ("127.0.0.1", 80)}) == ""


@pytest.mark.parametrize(
    ("trusted", "host", "believed"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        (" 10.0.0.0/8 , ::1", "10.1.2.3", True),
        ("10.0.0.1/8", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("*", "192.0.2.1", True),
        ("", "127.0.0.1", False),
        ("", "unix", True),
    ],
)
def test_who_is_trusted(trusted: str, host: str, believed: bool) -> None:
    assert Proxies(trusted).trusts(host) is believed
