"""Headers that go along to a backend."""

from collections.abc import Iterable, Mapping

from gateway.config.settings import ProxySettings
from gateway.session import Session

_FORBIDDEN = ("\r", "\n", "\0")
"""In no value: what follows would be another header. A client's own headers have been read, and have none."""


class ForwardedHeaders:
    """Which headers one backend is sent: the client's, over what its connect command calls so, over our own."""

    def __init__(self, settings: ProxySettings) -> None:
        self.wanted = {name.lower(): name for name in settings.http_headers}
        """Of the request that opened the connection, by their names in lower case."""
        self.emulated = {name.lower(): name for name in settings.emulated_headers}
        self._static = {name.lower(): (name, value) for name, value in settings.http.static_headers.items()}
        self._static["content-type"] = ("Content-Type", "application/json")

    def of(self, session: Session | None) -> Iterable[tuple[str, str]]:
        """Those of a call about a client, or about none."""
        if session is None or not (self.wanted or self.emulated):
            return self._static.values()
        found = dict(self._static)
        for key, value in (session.headers or {}).items():
            if key in self.emulated and not any(each in value for each in _FORBIDDEN):
                found[key] = (self.emulated[key], value)
        own = [(key, value) for key, value in _own(session.handshake.scope) if key in self.wanted]
        for key, _ in own:
            found.pop(key, None)
        return [*found.values(), *((self.wanted[key], value) for key, value in own)]


def _own(scope: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())  # type: ignore[assignment]  # as ASGI has them
    for name, value in headers:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        yield name.decode("latin-1"), text
