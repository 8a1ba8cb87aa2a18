"""Events of the bench's backend are signed, and those that a server refuses end the measurement."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pytest

from bench.servers import Failed
from bench.triggers import KEY, SECRET, Triggers, request
from gateway.apps.base import App
from gateway.apps.signatures import verify_request
from gateway.config.settings.pusher import PusherApp
from gateway.kinds import Names

ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(10)
        yield found


def test_a_request_is_signed() -> None:
    head, _, body = request("bench0", '{"t":1}').partition(b"\r\n\r\n")
    method, target, _ = head.decode().split("\r\n")[0].split(" ")
    url = urlsplit(target)
    app = App(PusherApp(id="9001", key=KEY, secret=SECRET), Names(""))
    assert verify_request(app, method, url.path, parse_qsl(url.query), body, time.time()) is None
    assert body == rb'{"name":"tick","channels":["bench0"],"data":"{\"t\":1}"}'


def test_connections_are_used_again_or_made_anew(listener: socket.socket) -> None:
    triggers = Triggers(listener.getsockname()[1], ["bench0"], 1)
    triggers.publish(0, b"1")
    with listener.accept()[0] as first:
        first.sendall(ACCEPTED)
        triggers.publish(0, b"2")
        first.sendall(LAST)
        triggers.publish(0, b"3")
        heard = b""
        while part := first.recv(4096):
            heard += part
    with listener.accept()[0] as second:
        last = second.recv(4096)
    assert [each.count(b"POST /apps/9001/events?") for each in (heard, last)] == [2, 1]
    triggers.close()


def test_a_refusal_ends_it(listener: socket.socket) -> None:
    triggers = Triggers(listener.getsockname()[1], ["bench0"], 1)
    with listener.accept()[0] as server:
        triggers.publish(0, b"{}")
        server.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")
        with pytest.raises(Failed, match="401"):
            triggers.publish(0, b"{}")
    triggers.close()
