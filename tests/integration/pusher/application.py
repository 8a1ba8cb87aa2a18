"""The application: says who may subscribe to what, as PyPI ``pusher`` does it, and takes webhooks.

A page tells in headers what it wants to be: ``X-Member`` is the member's data, ``X-User`` the user's, and ``X-Refused``
is refused with this status.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pusher

from tests.integration.pusher.apps import MASTER, App
from tests.waiting import until

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
}


class Asked(NamedTuple):
    """What a page has asked to be signed."""

    path: str
    form: dict[str, str]


class Webhook(NamedTuple):
    """One request."""

    key: str
    signature: str
    body: bytes


class Application(ThreadingHTTPServer):
    """Listens on a port of its own."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Asked] = []
        self.webhooks: list[Webhook] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asks may be gone, as a gateway is that is killed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def told(self, name: str, channel: str) -> list[dict[str, Any]]:
        """The events of this name and channel, of all webhooks."""
        events = [event for each in self.webhooks for event in json.loads(each.body)["events"]]
        return [event for event in events if event["name"] == name and event["channel"] == channel]

    async def until_told(self, name: str, channel: str, count: int = 1) -> list[dict[str, Any]]:
        await until(lambda: len(self.told(name, channel)) >= count, what=f"{count} {name} of {channel}")
        return self.told(name, channel)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Application

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/webhooks":
            key, signature = self.headers["X-Pusher-Key"], self.headers["X-Pusher-Signature"]
            self.server.webhooks.append(Webhook(key, signature, body))
            self._answer(200, {})
        elif refused := self.headers["X-Refused"]:
            self._answer(int(refused), {})
        else:
            self.server.asked.append(Asked(self.path, dict(parse_qsl(body.decode()))))
            self._answer(200, self._signed(**self.server.asked[-1].form))

    def do_OPTIONS(self) -> None:
        """A page asks whether it may ask."""
        self._answer(200, {})

    def _signed(self, socket_id: str, channel_name: str = "") -> dict[str, Any]:
        app_id, key, secret = self.headers["X-App"].split()
        signing = pusher.Pusher(app_id, key, secret, encryption_master_key_base64=MASTER)
        if not channel_name:
            found: dict[str, Any] = signing.authenticate_user(socket_id, json.loads(self.headers["X-User"]))
            return found
        member = json.loads(self.headers["X-Member"] or "null") if channel_name.startswith("presence-") else None
        found = signing.authenticate(channel_name, socket_id, member)
        if shared := found.get("shared_secret"):
            found["shared_secret"] = shared.decode()  # the library leaves it as bytes
        return found

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**CORS, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@contextmanager
def application() -> Iterator[Application]:
    with Application() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def wishes(app: App, member: Any = None, user: Any = None, refused: int = 0) -> dict[str, str]:
    """Headers for what a page wants to be."""
    headers = {"X-App": f"{app.id} {app.key} {app.secret}"}
    headers |= {"X-Member": json.dumps(member)} if member is not None else {}
    headers |= {"X-User": json.dumps(user)} if user is not None else {}
    return headers | ({"X-Refused": str(refused)} if refused else {})
