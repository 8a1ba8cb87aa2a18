"""A gateway that does not exist, behind the contract of the admin page: thousands of connections on two nodes.

``python -m tests.admin.mock [PORT]`` serves the page with it. The password is ``admin``. What a test wants to happen is
``POST /mock/<what>``: ``expire`` (tokens are good no longer), ``away`` and ``back``, ``lose`` and ``find`` (a node).
"""

import ipaddress
import json
import random
import secrets
import sys
import time
from collections.abc import Callable
from math import sin
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

STATIC = Path(__file__).parents[2] / "gateway" / "admin" / "static"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
PASSWORD = "admin"
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
"""As a user, a channel and data."""
BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
NODES = {"n-a": "gateway-a", "n-b": "gateway-b"}

JSONObject = dict[str, Any]


class RefusedError(Exception):
    """An error of the API."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cluster:
    """What is connected, published and recorded. Numbers come from a seed, and grow with the clock."""

    def __init__(self, connections: int = 4000, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.start = clock()
        self.random = random.Random(7)
        self.silent = False
        self.tokens: set[str] = set()
        self.history: dict[str, list[JSONObject]] = {}
        self.recorded: dict[tuple[str, str], JSONObject] = {}
        self.subscribed: dict[str, dict[str, None]] = {}
        self.rows: dict[str, JSONObject] = {}
        for index in range(connections):
            self._connect(f"user{index % 1500}" if index % 40 else "", ["lobby", f"room:{index % 600}"])
        self._connect(HOSTILE, [HOSTILE, "lobby"])
        self._connect("zoe", [f"topic:{index}" for index in range(120)])
        for index in range(45):
            self.store("lobby", {"text": f"message {index}", "long": "x" * (5000 if index == 44 else 3)})
        self.store(HOSTILE, {"text": HOSTILE})

    def _connect(self, user: str, channels: list[str]) -> None:
        some = self.random
        client = f"{some.getrandbits(128):032x}"
        uid = some.choice(list(NODES))
        self.rows[client] = {
            "client": client,
            "node": uid,
            "node_name": NODES[uid],
            "user": user,
            "address": f"10.0.{some.randrange(8)}.{some.randrange(256)}",
            "protocol": some.choice(["centrifuge-json"] * 9 + ["plain"]),
            "transport": some.choice(["websocket"] * 9 + ["sse"]),
            "state": "connected",
            "since": int(self.start) - some.randrange(90_000),
            "subscriptions": len(channels),
            "queued": some.choice([0] * 30 + [some.randrange(90_000)]),
            "round_trip": some.choice([None, some.random() / 5]),
        }
        for channel in channels:
            self.subscribed.setdefault(channel, {})[client] = None

    def store(self, channel: str, data: Any, **extra: Any) -> JSONObject:
        stream = self.history.setdefault(channel, [])
        stream.append({"data": data, "offset": len(stream) + 1, **extra})
        return {"offset": len(stream), "epoch": "KxAb"}

    def channels_of(self, client: str) -> list[str]:
        return [name for name, clients in self.subscribed.items() if client in clients]

    @property
    def missing(self) -> list[str]:
        return [NODES["n-b"]] if self.silent else []

    # — methods —

    def nodes(self, _: JSONObject) -> JSONObject:
        return {
            "nodes": [self._node(uid) for uid in NODES if not (self.silent and uid == "n-b")],
            "missing": self.missing,
        }

    def _node(self, uid: str) -> JSONObject:
        past = self.clock() - self.start + 5000
        mine = [row for row in self.rows.values() if row["node"] == uid]
        tired = uid == "n-b"
        reason = {"reason": "redis", "text": "Redis 10.0.0.5:6379 has not answered for 12 s; see that it is up"}
        lag = [int(past * part) for part in (90, 30, 8, 4, 2, 1, 0.2, 0.05, 0, 0, 0, 0, 0, 0)]
        return {
            "uid": uid,
            "name": NODES[uid],
            "version": "1.4.1" if tired else "1.4.0",
            "uptime": past,
            "status": "degraded" if tired else "ok",
            "reasons": [reason] if tired else [],
            "connections": len(mine),
            "users": len({row["user"] for row in mine}),
            "subscriptions": sum(row["subscriptions"] for row in mine),
            "channels": len(self.subscribed),
            "connection_limit": 2100 if tired else 5000,
            "rss": 180_000_000 + len(mine) * 9000,
            "cpu": past * (0.41 if tired else 0.23),
            "descriptors": len(mine) + 40,
            "descriptor_limit": 1_048_576,
            "publications_in": int(past * 610 + 1500 * sin(past / 9)),
            "publications_out": int(past * 410),
            "deliveries": int(past * 48_000 + 90_000 * sin(past / 5)),
            "bytes_in": int(past * 90_000),
            "bytes_out": int(past * 9_300_000 + 40_000_000 * sin(past / 8)),
            "slow": 3 if tired else 0,
            "queued": 1_250_000 if tired else 0,
            "loop_lag": {"bounds": BOUNDS, "counts": lag},
            "delivery_lag": {"bounds": BOUNDS, "counts": [count * 3 for count in lag]},
            "at": self.clock(),
        }

    def connections(self, body: JSONObject) -> JSONObject:
        users = body.get("user")
        network = ipaddress.ip_network(body["address"]) if body.get("address") else None
        rows = [
            row
            for client, row in sorted(self.rows.items())
            if client > body.get("cursor", "")
            and (not users or row["user"] == users)
            and (not body.get("node") or row["node"] == body["node"])
            and (not body.get("channel") or client in self.subscribed.get(body["channel"], ()))
            and (network is None or ipaddress.ip_address(row["address"]) in network)
        ]
        limit = body.get("limit", 50)
        return {
            "connections": rows[:limit],
            "cursor": rows[limit - 1]["client"] if len(rows) > limit else "",
            "missing": self.missing,
        }

    def connection(self, body: JSONObject) -> JSONObject:
        row = self.rows.get(body["client"])
        if row is None:
            raise RefusedError(104, "not found")
        channels = self.channels_of(row["client"])
        first = int(body.get("cursor") or 0)
        return {
            "connection": row,
            "expire_at": int(self.start) + 1800,
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "info": {"name": row["user"], "role": "guest"},
            "subscriptions": [
                {
                    "channel": name,
                    "state": "live",
                    "server_side": False,
                    "positioned": True,
                    "recoverable": name in self.history,
                }
                | ({"offset": len(self.history[name]), "epoch": "KxAb"} if name in self.history else {})
                for name in channels[first : first + 50]
            ],
            "cursor": str(first + 50) if len(channels) > first + 50 else "",
        }

    def close(self, body: JSONObject) -> JSONObject:
        if self.rows.pop(body["client"], None) is None:
            raise RefusedError(104, "not found")
        return {}

    def unsubscribe(self, body: JSONObject) -> JSONObject:
        del self.subscribed[body["channel"]][body["client"]]
        return {}

    def disconnect(self, body: JSONObject) -> JSONObject:
        self.rows = {client: row for client, row in self.rows.items() if row["user"] != body["user"]}
        return {}

    def channels(self, body: JSONObject) -> JSONObject:
        prefix, star, _ = body.get("pattern", "").partition("*")
        names = [
            name
            for name in sorted(self.subscribed)
            if name > body.get("cursor", "") and (name.startswith(prefix) if star or not prefix else name == prefix)
        ]
        limit = body.get("limit") or 100
        counts = {name: {"num_clients": len(self.subscribed[name])} for name in names[:limit]}
        more = {"cursor": names[limit - 1]} if len(names) > limit else {}
        return {"channels": counts, **more, **({"partial": True, "missing": self.missing} if self.silent else {})}

    def channel(self, body: JSONObject) -> JSONObject:
        name = body["channel"]
        rows = [self.rows[client] for client in self.subscribed.get(name, ()) if client in self.rows]
        return {
            "channel": name,
            "namespace": name.partition(":")[0] if ":" in name else "",
            "options": {
                "presence": True,
                "join_leave": False,
                "history_size": 100,
                "history_ttl": 300,
                "channel_regex": "",
            },
            "subscribers": [
                {"node": uid, "name": NODES[uid], "count": sum(row["node"] == uid for row in rows)} for uid in NODES
            ],
            "missing": self.missing,
        }

    def _members(self, channel: str) -> list[JSONObject]:
        if channel.startswith("topic:"):
            raise RefusedError(108, "not available: presence is off in the namespace topic")
        return [self.rows[each] for each in self.subscribed.get(channel, ()) if each in self.rows]

    def presence_stats(self, body: JSONObject) -> JSONObject:
        members = self._members(body["channel"])
        return {"num_clients": len(members), "num_users": len({row["user"] for row in members})}

    def presence(self, body: JSONObject) -> JSONObject:
        members = self._members(body["channel"])
        first = int(body.get("cursor") or 0)
        page = members[first : first + body["limit"]]
        found = {
            row["client"]: {"user": row["user"], "client": row["client"], "conn_info": {"name": row["user"]}}
            for row in page
        }
        return {"presence": found, **({"cursor": str(first + len(page))} if first + len(page) < len(members) else {})}

    def get_history(self, body: JSONObject) -> JSONObject:
        stream = self.history.get(body["channel"], [])
        top = body["since"]["offset"] if body.get("since") else len(stream) + 1
        page = [each for each in reversed(stream) if each["offset"] < top][: body["limit"]]
        return {"publications": page, "offset": len(stream), "epoch": "KxAb"}

    def history_remove(self, body: JSONObject) -> JSONObject:
        self.history.pop(body["channel"], None)
        return {}

    def publish(self, body: JSONObject) -> JSONObject:
        if body["channel"].startswith("unknown:"):
            raise RefusedError(102, "unknown channel: there is no namespace unknown")
        if body.get("skip_history"):
            return {}
        return self.store(body["channel"], body["data"], **({"tags": body["tags"]} if body.get("tags") else {}))

    def settings(self, _: JSONObject) -> JSONObject:
        known = [
            *((f"http_server.option_{index}", index, "default") for index in range(40)),
            ("client.token.hmac_secret_key", "***", "file gateway.toml"),
            ("client.allowed_origins", ["https://example.com", "https://*.example.com"], "file gateway.toml"),
            ("channel.namespaces.0.history_ttl", 300, "default"),
            ("engine.type", "redis", "environment GATEWAY_ENGINE_TYPE"),
            ("admin.insecure", True, "dev mode"),
        ]
        return {
            "settings": [
                {"key": key, "value": value, "default": origin == "default", "origin": origin}
                for key, value, origin in known
            ]
        }

    def record(self, body: JSONObject) -> JSONObject:
        key = (body["what"], body["name"])
        until = self.clock() + body["seconds"]
        self.recorded[key] = {"until": until, "from": self.recorded.get(key, {}).get("from", self.clock())}
        return {"until": until}

    def recordings(self, _: JSONObject) -> JSONObject:
        rows = [
            {"what": what, "name": name, "until": each["until"], "events": len(self._events(what, name))}
            for (what, name), each in self.recorded.items()
        ]
        return {"recordings": rows, "missing": self.missing}

    def recording(self, body: JSONObject) -> JSONObject:
        key = (body["what"], body["name"])
        if key not in self.recorded:
            raise RefusedError(104, "nothing is recorded under this name")
        events = [each for each in self._events(*key) if each["at"] > body.get("after", 0)]
        return {"events": events, "until": self.recorded[key]["until"], "missing": self.missing}

    def _events(self, what: str, name: str) -> list[JSONObject]:
        """Ten a second, and two hundred at once when it begins."""
        entry = self.recorded[what, name]
        end = min(self.clock(), entry["until"])
        kinds = ["command", "reply", "push", "publication", "ping", "pong", "error", "join"]
        texts = [
            "publish into lobby",
            "published at offset 12",
            f"publication {HOSTILE}",
            "in lobby",
            "ping",
            "pong after 12 ms",
            "103 permission denied",
            "user7 came",
        ]
        count = 200 + int((end - entry["from"]) * 10)
        return [
            {
                "at": entry["from"] + (index - 200) / 10,
                "node": NODES["n-a"],
                "kind": kinds[index % 8],
                "text": texts[index % 8],
                "user": HOSTILE if index % 8 == 3 else name,
                "channel": "lobby",
                "client": "c0ffee00" * 4,
                **(
                    {"data": json.dumps({"publish": {"channel": "lobby", "data": {"text": HOSTILE, "token": "***"}}})}
                    if index % 2 == 0
                    else {}
                ),
            }
            for index in range(count)
        ]


class Site:
    """The page, and what it asks. Without ``password`` nobody is asked for one."""

    def __init__(self, cluster: Cluster, password: str = PASSWORD) -> None:
        self.cluster = cluster
        self.password = password
        self.away = False
        self.wrong = 0
        self.app = Starlette(
            routes=[
                Route("/admin", lambda _: RedirectResponse("/admin/")),
                Route("/admin/", file),
                Route("/admin/auth", self.auth, methods=["POST"]),
                Route("/admin/api/{method}", self.api, methods=["POST"]),
                Route("/admin/{name}", file),
                Route("/mock/{what}", self.happen, methods=["POST"]),
            ]
        )

    async def auth(self, request: Request) -> Response:
        if self.away:
            return PlainTextResponse("Bad gateway", 502)
        given = (await request.json()).get("password")
        if self.password and given is None:
            return JSONResponse({"error": {"message": "a password is needed"}}, 401)
        if self.password and given != self.password:
            self.wrong += 1
            if self.wrong > 5:
                return JSONResponse(
                    {"error": {"message": "too many wrong passwords: try again in 30 s"}}, 429, {"Retry-After": "30"}
                )
            return JSONResponse({"error": {"message": "wrong password"}}, 401)
        token = secrets.token_hex() if self.password else ""
        self.cluster.tokens.add(token)
        return JSONResponse({"token": token, "expires_in": 43200})

    async def api(self, request: Request) -> Response:
        if self.away:
            return PlainTextResponse("Bad gateway", 502)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.cluster.tokens:
            return JSONResponse({"error": {"code": 101, "message": "unauthorized"}}, 401)
        name = request.path_params["method"]
        method = self.cluster.get_history if name == "history" else getattr(self.cluster, name)
        try:
            return JSONResponse({"result": method(await request.json())})
        except RefusedError as refusal:
            return JSONResponse({"error": {"code": refusal.code, "message": str(refusal)}})
        except ValueError as error:
            return JSONResponse({"error": {"code": 107, "message": f"bad request: {error}"}}, 400)

    async def happen(self, request: Request) -> Response:
        match request.path_params["what"]:
            case "expire":
                self.cluster.tokens.clear()
            case "away" | "back" as what:
                self.away = what == "away"
            case "lose" | "find" as what:
                self.cluster.silent = what == "lose"
        return Response()


def file(request: Request) -> Response:
    path = STATIC / request.path_params.get("name", "index.html")
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, headers=headers) if path.exists() else Response(status_code=404)


if __name__ == "__main__":
    uvicorn.run(Site(Cluster()).app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
