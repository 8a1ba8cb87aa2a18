"""What a namespace asks of backends."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from gateway.auth.permissions import is_json
from gateway.auth.tokens import Grant
from gateway.brokers.base import PublishOptions
from gateway.brokers.single_flight import SingleFlight
from gateway.channels import Channel
from gateway.config.settings import ChannelOptions
from gateway.errors import Disconnect, Error, ErrorCode
from gateway.maps.base import MapWrite
from gateway.messages import Payload, Publication, SubscribeRequest
from gateway.proxies import envelopes
from gateway.proxies.asking import Asking
from gateway.proxies.envelopes import (
    DataAnswer,
    GrantAnswer,
    MapPublishAnswer,
    MapPublishAsked,
    MapRemoveAnswer,
    MapRemoveAsked,
    PublishAnswer,
    PublishAsked,
    RenewalAnswer,
    SubRefreshAsked,
    SubscribeAsked,
    content,
    moment,
    payload,
)
from gateway.proxies.failures import Failure
from gateway.session import Session
from gateway.session.application import AS_THE_OPTIONS_SAY, Accepted, AcceptedChange, Admitted
from gateway.session.tokens import check_moment

EXTENSION = 60.0
"""Seconds for which what is to be renewed goes on while its backend is away; some have a quarter more, by chance, so
that not all come back at once."""


def extended(now: float) -> int:
    return int(now + EXTENSION * random.uniform(1, 1.25))  # noqa: S311  spreads, hides nothing


class ProxiedChannels:
    """Satisfies `session.application.Route`, for the channels of one namespace."""

    refresh = presence = history = unsubscribe = None
    publish_unsubscribed = True
    read_unsubscribed = False
    server_side = False

    def __init__(self, options: ChannelOptions, asking: Asking) -> None:
        self._options = options
        self._asking = asking
        self._filling: SingleFlight[str, Payload | None] = SingleFlight()
        on = options
        self.subscribe: Callable[..., Coroutine[Any, Any, Admitted]] | None = None
        self.publish: Callable[..., Coroutine[Any, Any, Accepted]] | None = None
        self.map_publish: Callable[..., Coroutine[Any, Any, AcceptedChange]] | None = None
        self.map_remove: Callable[..., Coroutine[Any, Any, AcceptedChange]] | None = None
        self.renew: Callable[..., Coroutine[Any, Any, Admitted | None]] | None = None
        self.cache_empty: Callable[..., Coroutine[Any, Any, Payload | None]] | None = None
        if on.subscribe_proxy_enabled:
            self.subscribe = self._subscribe
        if on.publish_proxy_enabled:
            self.publish = self._publish
        if on.map.publish_proxy_enabled:
            self.map_publish = self._map_publish
        if on.map.remove_proxy_enabled:
            self.map_remove = self._map_remove
        if on.sub_refresh_proxy_enabled:
            self.renew = self._renew
        if on.cache_empty_proxy_enabled:
            self.cache_empty = self._fill

    @property
    def asks(self) -> bool:
        """Whether there is anything that it asks."""
        events = self.subscribe, self.publish, self.map_publish, self.map_remove, self.renew, self.cache_empty
        return any(events)

    async def _subscribe(self, session: Session, channel: Channel, request: SubscribeRequest) -> Admitted:
        if channel.private:
            raise Error(ErrorCode.PERMISSION_DENIED)  # takes a token, which would have been looked at before
        if channel.users is not None and channel.options.allow_user_limited_channels:
            return AS_THE_OPTIONS_SAY  # the name says who may
        admitted = await self._asking.ask(
            envelopes.SUBSCRIBE,
            self._options.subscribe_proxy_name,
            session,
            SubscribeAsked,
            _admitted,
            bytes(request.data),
            channel=channel.name,
            token=request.token,
        )
        check_moment(self._asking.node, admitted.expire_at)
        return admitted

    async def _publish(self, session: Session, channel: Channel, publication: Publication) -> Accepted:
        return await self._asking.ask(
            envelopes.PUBLISH,
            self._options.publish_proxy_name,
            session,
            PublishAsked,
            lambda answer: _accepted(answer, publication),
            publication.data,
            channel=channel.name,
        )

    async def _map_publish(self, session: Session, channel: Channel, change: Publication) -> AcceptedChange:
        return await self._asking.ask(
            envelopes.MAP_PUBLISH,
            self._options.map.publish_proxy_name,
            session,
            MapPublishAsked,
            lambda answer: _set(answer, change),
            change.data,
            channel=channel.name,
            key=change.key,
        )

    async def _map_remove(self, session: Session, channel: Channel, change: Publication) -> AcceptedChange:
        return await self._asking.ask(
            envelopes.MAP_REMOVE,
            self._options.map.remove_proxy_name,
            session,
            MapRemoveAsked,
            lambda answer: _removed(answer, change),
            channel=channel.name,
            key=change.key,
        )

    async def _renew(self, session: Session, channel: Channel) -> Admitted | None:
        try:
            return await self._asking.ask(
                envelopes.SUB_REFRESH,
                self._options.sub_refresh_proxy_name,
                session,
                SubRefreshAsked,
                _renewed,
                channel=channel.name,
            )
        except Failure:
            return Admitted(expire_at=extended(self._asking.node.clock()))
        except (Error, Disconnect):
            return None

    async def _fill(self, session: Session, channel: Channel) -> Payload | None:
        """All who come to the empty cache together ask once."""
        name = self._options.cache_empty_proxy_name
        ask = self._asking.ask_of_channel
        return await self._filling.ask(channel.name, lambda: ask(envelopes.CACHE_EMPTY, name, channel.name, _beginning))


def _admitted(answer: GrantAnswer | None) -> Admitted:
    """Flags of the request count for nothing: what the backend does not say, the options force or do not."""
    answer = answer or GrantAnswer()
    return Admitted(answer.grant(), moment(answer.expire_at), on_request=False)


def _renewed(answer: RenewalAnswer | None) -> Admitted | None:
    """Without an end it is for ever, as there."""
    if answer is None or answer.expired:
        return None
    return Admitted(Grant(payload(answer.info, answer.b64info)), moment(answer.expire_at))


def _accepted(answer: PublishAnswer | None, publication: Publication) -> Accepted:
    if answer is None:
        return Accepted(publication, PublishOptions(delta=False))
    data = content(answer.data, answer.b64data)
    if data is not None or answer.tags:
        binary = publication.binary if data is None else not is_json(data)
        data = publication.data if data is None else data
        publication = Publication(data, publication.info, tags=answer.tags, binary=binary)
    extras = PublishOptions(
        skip_history=bool(answer.skip_history),
        idempotency_key=answer.idempotency_key or "",
        version=answer.version or 0,
        version_epoch=answer.version_epoch or "",
        delta=bool(answer.delta),  # the namespace's delta_publish is not for these, as there
    )
    return Accepted(publication, extras)


def _set(answer: MapPublishAnswer | None, change: Publication) -> AcceptedChange:
    if answer is None:
        return AcceptedChange(change)
    data = content(answer.data, answer.b64data)
    binary = change.binary if data is None else not is_json(data)
    extras = MapWrite(
        key_mode=answer.key_mode or "",
        idempotency_key=answer.idempotency_key or "",
        version=answer.version or 0,
        version_epoch=answer.version_epoch or "",
        delta=bool(answer.delta),
    )
    key, data = answer.key or change.key, change.data if data is None else data
    return AcceptedChange(Publication(data, change.info, key=key, tags=answer.tags, binary=binary), extras)


def _removed(answer: MapRemoveAnswer | None, change: Publication) -> AcceptedChange:
    if answer is None:
        return AcceptedChange(change)
    key = answer.key or change.key
    return AcceptedChange(replace(change, key=key), MapWrite(idempotency_key=answer.idempotency_key or ""))


def _beginning(answer: DataAnswer | None) -> Payload | None:
    """What is to be published; nothing if the backend has published something itself, or has nothing."""
    return payload(answer.data, answer.b64data) if answer is not None else None
