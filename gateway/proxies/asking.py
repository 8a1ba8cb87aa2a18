"""Asking backends: which one, about whom, and by which headers."""

import base64
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from gateway.auth.permissions import is_json
from gateway.config.backends import find_backends, place_of
from gateway.config.settings import ProxySettings, Settings
from gateway.config.settings.proxies import DEFAULT
from gateway.core.node import Node
from gateway.errors import SettingsError
from gateway.proxies.backend import Backend
from gateway.proxies.envelopes import CacheEmptyAsked, Connection, Question, User
from gateway.proxies.headers import ForwardedHeaders
from gateway.recurring import Recurring
from gateway.session import Session

R = TypeVar("R")
T = TypeVar("T")

log = logging.getLogger("gateway.proxies")


class Asking:
    """The backends of one node."""

    def __init__(self, settings: Settings, node: Callable[[], Node]) -> None:
        """``node`` gives the node once it is made."""
        self._settings = settings
        self._node = node
        self._backends: dict[str, tuple[Backend, ForwardedHeaders]] = {}
        """By where they stand in the settings."""

    @property
    def node(self) -> Node:
        return self._node()

    def start(self) -> None:
        """The node is there. Raises ``SettingsError`` for certificates that cannot be used."""
        telling = Recurring(log, self.node.wheel.clock, self.node.wheel.after)
        for place, settings in find_backends(self._settings):
            name = getattr(settings, "name", DEFAULT)
            try:
                backend = Backend(name, settings, self.node.metrics, self.node.wheel.clock, telling)
            except OSError as error:
                raise SettingsError(f"{place}.http.tls: {error}; give PEM, or paths of files that hold it") from error
            self._backends[place] = backend, ForwardedHeaders(settings)

    def keeps_newest(self, channel: str) -> bool:
        """Whether it is a cache. Raises ``Error`` for a name that is no channel's."""
        return self.node.channels.resolve(channel).options.force_recovery_mode == "cache"

    async def close(self) -> None:
        for backend, _ in self._backends.values():
            await backend.close()

    async def ask(
        self,
        question: Question[R],
        proxy: str,
        session: Session,
        kind: type[Connection],
        read: Callable[[R | None], T],
        data: bytes = b"",
        **more: Any,
    ) -> T:
        """What ``read`` makes of an answer's result, about a client. ``kind`` says what is asked with ``more``.

        Raises `Failure`, and whatever the answer is instead of a result.
        """
        backend, headers = self._backends[place_of(self._settings, question.event, proxy)]
        binary = bool(data) and (
            backend.settings.binary_encoding or (session.wire.protocol.binary and not is_json(data))
        )
        asked = kind(
            client=session.client,
            transport=_transport(session),
            protocol="protobuf" if session.wire.protocol.binary else "json",
            encoding="binary" if binary or backend.settings.binary_encoding else "json",
            **(_user(session, backend.settings) if issubclass(kind, User) else {}),
            **(_data(data, binary) if data else {}),
            **more,
        )
        body = msgspec.json.encode(asked)
        return await backend.ask(
            question.event,
            body,
            headers.of(session),
            lambda answer: read(question.read(answer)),
            lambda: session.closed,
        )

    async def ask_of_channel(self, question: Question[R], proxy: str, channel: str, read: Callable[[R | None], T]) -> T:
        """The same about a channel, and no client."""
        return await self.ask_of_none(question, proxy, CacheEmptyAsked(channel), read)

    async def ask_of_none(self, question: Question[R], proxy: str, asked: Any, read: Callable[[R | None], T]) -> T:
        """The same with ``asked`` for a body."""
        backend, headers = self._backends[place_of(self._settings, question.event, proxy)]
        body = msgspec.json.encode(asked)
        return await backend.ask(
            question.event, body, headers.of(None), lambda answer: read(question.read(answer)), _never
        )


def _transport(session: Session) -> str:
    """How the protocol calls it."""
    name = session.transport.name
    unidirectional = session.wire.protocol.unidirectional and not name.startswith("uni_")
    return f"uni_{name}" if unidirectional else name


def _user(session: Session, settings: ProxySettings) -> dict[str, Any]:
    told: dict[str, Any] = {"user": session.user}
    if settings.include_connection_meta and session.meta:
        told["meta"] = Raw(session.meta)
    return told


def _data(data: bytes, binary: bool) -> dict[str, Any]:
    return {"b64data": base64.b64encode(data).decode()} if binary else {"data": Raw(data)}


def _never() -> bool:
    return False
