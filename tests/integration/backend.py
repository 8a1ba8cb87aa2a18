"""A backend that nodes in other processes ask: a thread that answers calls, and values that are polled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.integration.settings import NAMESPACES, SETTINGS

SIGNING = "integration-secret-for-signatures-of-keys"
TALLIES: dict[str, Any] = {
    "name": "tally",
    "subscription_type": "shared_poll",
    "allow_subscribe_for_client": True,
    "shared_poll": {"mode": "versioned", "refresh_interval": "100ms"},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result = {"/sum": _sum, "/values": _values}[self.path](asked)
        body = json.dumps({"result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


def _sum(asked: dict[str, Any]) -> Any:
    return {"data": {"sum": sum(asked["data"])}}


def _values(asked: dict[str, Any]) -> Any:
    """Each value is one more than the one that is known."""
    versions = {each["key"]: each.get("version", 0) + 1 for each in asked["items"]}
    return {"items": [{"key": key, "data": {"n": n}, "version": n} for key, n in versions.items()]}


@contextmanager
def asking_backend(settings: dict[str, Any] = SETTINGS) -> Iterator[dict[str, Any]]:
    """Settings of gateways that ask one, for calls of `add` and in channels of `tally`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield {
                **settings,
                "channel": {
                    "namespaces": [*NAMESPACES, TALLIES],
                    "proxy": {"shared_poll_refresh": {"endpoint": f"{url}/values"}},
                },
                "shared_poll": {"hmac_secret_key": SIGNING},
                "rpc": {"proxy": {"endpoint": f"{url}/sum"}, "without_namespace": {"proxy_enabled": True}},
            }
        finally:
            server.shutdown()
            thread.join()
