"""The keys of the server API: one without a name, and any number that have one, all as good."""

import hmac
from collections.abc import Callable

from fastapi import Request

from gateway.config.settings import HTTPAPISettings


class APIKeys:
    """Tells by which key a request comes; ``settings`` are asked for with each."""

    def __init__(self, settings: Callable[[], HTTPAPISettings]) -> None:
        self._settings = settings
        self._read: HTTPAPISettings | None = None
        self._keys: list[tuple[str, bytes]] = []

    def find(self, request: Request) -> str | None:
        """What the settings call the key that the caller has: ``key``, or its name; None if it has none of them.

        Empty where nobody is asked. Access logs find it in ``request.state.api_key``.
        """
        settings = self._settings()
        if settings is not self._read:
            self._keys = [(name, key.encode()) for name, key in {"key": settings.key, **settings.keys}.items() if key]
            self._read = settings
        found = "" if settings.insecure else self._compare(_sent(request))
        if "api_key" in request.query_params:
            request.scope["query_string"] = b"api_key=***"  # servers log it with their line of the request
        request.state.api_key = found
        return found

    def _compare(self, sent: bytes) -> str | None:
        found = None
        for name, key in self._keys:  # with all of them, so that the time taken tells nobody which it was
            if hmac.compare_digest(sent, key):
                found = name
        return found


def is_api_key(authorization: str) -> bool:
    """Whether the header's value has a key: ``apikey …``."""
    return authorization.partition(" ")[0].lower() == "apikey"


def _sent(request: Request) -> bytes:
    authorization = request.headers.get("authorization", "")
    credentials = authorization.partition(" ")[2].strip() if is_api_key(authorization) else ""
    given = request.headers.get("x-api-key") or credentials
    # header values come decoded from Latin-1, query values from UTF-8
    return given.encode("latin-1") if given else request.query_params.get("api_key", "").encode()
