"""Backends that decide, as a session asks them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Raw

from gateway.auth.permissions import is_json
from gateway.auth.tokens import Grant, TokenInvalid
from gateway.config.backends import find_asked, find_backends
from gateway.config.settings import ChannelOptions, RPCOptions, Settings
from gateway.config.settings.proxies import DEFAULT
from gateway.core.node import Node
from gateway.core.poll_values import Value
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import ConnectRequest, Payload, RPCRequest
from gateway.proxies import envelopes
from gateway.proxies.asking import Asking
from gateway.proxies.channel import ProxiedChannels, extended
from gateway.proxies.envelopes import (
    ConnectAnswer,
    ConnectAsked,
    DataAnswer,
    GrantAnswer,
    PollAnswer,
    PollAsked,
    PolledKey,
    RefreshAsked,
    RenewalAnswer,
    RPCAsked,
    an_object,
    content,
    moment,
    payload,
)
from gateway.proxies.failures import Failure
from gateway.session import Session
from gateway.session.application import Admission, Admitted, Route
from gateway.session.tokens import check_moment


class Proxies:
    """Satisfies `session.application.Application`: asks about what the settings say, and leaves the rest to them.

    ``start`` is to be called when the node is made, and ``close`` in the end.
    """

    refresh = None
    disconnect = None
    judges_tokens = judges_subs = False

    def __init__(self, settings: Settings, node: Callable[[], Node]) -> None:
        self._rpc_settings = settings.rpc
        self._rpc_namespaces = {each.name: each for each in settings.rpc.namespaces}
        self._asking = Asking(settings, node)
        self.start, self.close = self._asking.start, self._asking.close
        asked = {each.event for each in find_asked(settings)}
        self.connect: Callable[..., Awaitable[Admission]] | None = self._connect if "connect" in asked else None
        self.renew: Callable[..., Awaitable[Admission | None]] | None = self._renew if "refresh" in asked else None
        self.rpc: Callable[..., Awaitable[Payload | None]] | None = self._rpc if "rpc" in asked else None
        backends = [each for _, each in find_backends(settings)]
        self.headers = frozenset(name.lower() for each in backends for name in each.emulated_headers)
        self._kept = frozenset(name.lower().encode("latin-1") for each in backends for name in each.http_headers)

    async def poll(self, proxy: str, channel: str, keys: list[tuple[str, int]]) -> tuple[Sequence[Value], str]:
        """A `gateway.core.polls.Fetch`."""
        asked = PollAsked(channel, [PolledKey(key, version) for key, version in keys])
        return await self._asking.ask_of_none(envelopes.SHARED_POLL_REFRESH, proxy, asked, _polled)

    def keep(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """What is needed of the scope of the request that opened a connection."""
        return {"headers": [(name, value) for name, value in scope["headers"] if name in self._kept]}

    def channels(self, options: ChannelOptions) -> Route[Session] | None:
        """What a namespace asks; None if that is nothing."""
        found = ProxiedChannels(options, self._asking)
        return found if found.asks else None

    async def _connect(self, session: Session, request: ConnectRequest, known: Admission | None) -> Admission:
        admission = await self._asking.ask(
            envelopes.CONNECT,
            DEFAULT,
            session,
            ConnectAsked,
            self._admission,
            bytes(request.data),
            name=request.name,
            version=request.version,
            channels=list(request.subs) or None,
        )
        if admission is None and known is None:
            none = TokenInvalid("there is none, the backend names nobody, and nobody anonymous may connect", "missing")
            raise Disconnect(DisconnectCode.BAD_REQUEST) from none
        if admission is not None:
            check_moment(self._asking.node, admission.expire_at)
        return admission or known or Admission()

    def _admission(self, answer: ConnectAnswer | None) -> Admission | None:
        if answer is None:
            return None
        subs = dict.fromkeys(answer.channels or (), Admitted())
        subs |= {name: Admitted(self._granted(name, grant)) for name, grant in (answer.subs or {}).items()}
        return Admission(
            answer.user or "",
            moment(answer.expire_at),
            payload(answer.info, answer.b64info),
            subs,
            payload(answer.data, answer.b64data),
            meta=an_object(answer.meta),
            on_request=False,
        )

    def _granted(self, name: str, answer: GrantAnswer | None) -> Grant:
        if answer is None:
            return Grant()
        recovers = bool(answer.cache_recover) and self._asking.keeps_newest(name)
        return answer.grant(replay=recovers or None)

    async def _renew(self, session: Session) -> Admission | None:
        try:
            return await self._asking.ask(envelopes.REFRESH, DEFAULT, session, RefreshAsked, _renewed)
        except Failure:
            return Admission(expire_at=extended(self._asking.node.clock()))
        except (Error, Disconnect):
            return None

    async def _rpc(self, session: Session, request: RPCRequest) -> Payload | None:
        options = self._options(request.method)
        data = await self._asking.ask(
            envelopes.RPC,
            options.proxy_name,
            session,
            RPCAsked,
            _answered,
            bytes(request.data),
            method=request.method,
        )
        if data is not None and not session.wire.protocol.binary and not is_json(data):
            raise Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL)
        return data

    def _options(self, method: str) -> RPCOptions:
        """Raises ``Error``: method not found, if there is no such namespace, or not available, if it asks nobody."""
        name, boundary, _ = method.partition(self._rpc_settings.namespace_boundary)
        options = self._rpc_namespaces.get(name) if name and boundary else self._rpc_settings.without_namespace
        if options is None:
            raise Error(ErrorCode.METHOD_NOT_FOUND)
        if not options.proxy_enabled:
            raise Error(ErrorCode.NOT_AVAILABLE)
        return options


def _polled(answer: PollAnswer | None) -> tuple[Sequence[Value], str]:
    if answer is None:
        return (), ""
    values = [
        Value(each.key, _given(each.data), each.version or 0, bool(each.removed), _given(each.prev_data))
        for each in answer.items or ()
    ]
    return values, answer.epoch or ""


def _given(data: Raw) -> Payload | None:
    return Payload(data) if data else None


def _renewed(answer: RenewalAnswer | None) -> Admission | None:
    if answer is None or answer.expired:
        return None
    info, meta = payload(answer.info, answer.b64info), an_object(answer.meta)
    return Admission(expire_at=moment(answer.expire_at), info=info, meta=meta)


def _answered(answer: DataAnswer | None) -> Payload | None:
    if answer is None:
        return None
    return content(answer.data, answer.b64data) or (Payload(answer.data) or None)  # null is an answer, too
