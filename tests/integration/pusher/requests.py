"""Calls of the HTTP API, signed right or wrong."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tests.integration.pusher.apps import MAIN, App
from tests.integration.servers import Server


async def call(
    server: Server,
    method: str,
    path: str,
    body: Any = None,
    *,
    app: App = MAIN,
    query: Mapping[str, str] = {},
    changed: Mapping[str, str] = {},
    left_out: str = "",
    late: float = 0.0,
) -> httpx.Response:
    """Sign and send. ``changed`` are parameters that are changed once they are signed, ``late`` moves our clock."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    params = {
        **query,
        "auth_key": app.key,
        "auth_timestamp": str(int(time.time() - late)),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(raw).hexdigest(),  # noqa: S324  what the protocol has
    }
    signed = "\n".join([method, path, "&".join(f"{key}={value}" for key, value in sorted(params.items()))])
    params["auth_signature"] = hmac.new(app.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    params |= changed
    params.pop(left_out, None)
    async with httpx.AsyncClient(base_url=server.url) as client:
        headers = {"Content-Type": "application/json"}
        return await client.request(method, path, params=params, content=raw, headers=headers)


async def publish(server: Server, event: Any, **options: Any) -> httpx.Response:
    return await call(server, "POST", f"/apps/{options.get('app', MAIN).id}/events", event, **options)
