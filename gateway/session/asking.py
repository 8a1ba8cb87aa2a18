"""Publish, presence, history, rpc and send: what a client asks of a channel or of the application."""

from collections.abc import Awaitable, Coroutine
from typing import Any

from gateway.auth.permissions import check_payload, is_json, may_publish, may_read_history, may_read_presence
from gateway.brokers.base import NO_EXTRAS, HistoryFilter, PublishOptions
from gateway.channels import Channel
from gateway.config.settings.channels import STREAM_TYPES
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    HistoryRequest,
    HistoryResult,
    Payload,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    RPCRequest,
    RPCResult,
    SendRequest,
)
from gateway.session import writing
from gateway.session.application import NO_APPLICATION, Accepted, route_of
from gateway.session.pipeline import Pipeline
from gateway.session.session import Session
from gateway.session.standing import check_may, check_subscribed, info_in, is_subscribed

DONE = PublishResult()


def publish(session: Session, command_id: int, request: PublishRequest) -> Coroutine[Any, Any, None] | None:
    channel = _channel(session, request.channel)
    options = channel.options
    if request.type or options.subscription_type not in STREAM_TYPES:
        if options.is_polled:
            raise Error(ErrorCode.PERMISSION_DENIED)
        return writing.write(session, command_id, request, channel)
    data = Payload(request.data)
    binary = bool(data) and session.wire.protocol.binary and not is_json(data)  # else it is part of what was read
    publication = Publication(data, info_in(session, channel), binary=binary)
    if (route := route_of(channel)) and (decide := route.publish):
        check_subscribed(session, channel, "publish", route.publish_unsubscribed)
        check_payload(options, data, known_json=not binary)
        return _publish_decided(session, command_id, channel, publication, decide(session, channel, publication))
    check_may(session, channel, may_publish)
    check_payload(options, data, known_json=not binary)
    return _hand_over(session, command_id, channel, publication, NO_EXTRAS)


async def _publish_decided(
    session: Session, command_id: int, channel: Channel, publication: Publication, decision: Awaitable[Accepted]
) -> None:
    """Publish what the program makes of it."""
    accepted = await decision
    if accepted.publication is None:
        session.answer(command_id, DONE)
        return
    if accepted.publication is not publication:
        publication = accepted.publication
        check_payload(channel.options, publication.data, known_json=not publication.binary)
    if (rest := _hand_over(session, command_id, channel, publication, accepted.extras)) is not None:
        await rest


def _hand_over(
    session: Session, command_id: int, channel: Channel, publication: Publication, extras: PublishOptions
) -> Coroutine[Any, Any, None] | None:
    """Give it to the broker, in turn; answers what the client's next command has to wait for."""
    pipeline = session.pipeline
    if pipeline is None:
        pipeline = session.pipeline = Pipeline()
    node = session.node
    full, taken = pipeline.begun(), False
    try:
        taken = extras is NO_EXTRAS and node.publishing.post(
            channel.name, publication, node.stream(channel), _published, session, pipeline, command_id, channel
        )
    finally:
        if not taken:
            pipeline.ended()
    if not taken:
        return pipeline.add(_publish(session, command_id, channel, publication, extras))
    return pipeline.room() if full else None


def _published(
    session: Session, pipeline: Pipeline, command_id: int, channel: Channel, error: Exception | None
) -> None:
    pipeline.ended()
    if error is None:
        session.node.accepted(channel)
        session.answer(command_id, DONE)
    else:
        session.fail(command_id, error)


async def _publish(
    session: Session, command_id: int, channel: Channel, publication: Publication, extras: PublishOptions
) -> None:
    try:
        await session.node.publish(channel, publication, extras)
    except Exception as error:
        session.fail(command_id, error)
    else:
        session.answer(command_id, DONE)


async def presence(session: Session, command_id: int, request: PresenceRequest) -> None:
    channel = await _presence_channel(session, request.channel)
    members = await session.node.presence(channel, channel.options.presence_max_members)
    session.answer(command_id, PresenceResult(members))


async def presence_stats(session: Session, command_id: int, request: PresenceStatsRequest) -> None:
    channel = await _presence_channel(session, request.channel)
    session.answer(command_id, PresenceStatsResult(*await session.node.presence_stats(channel)))


async def history(session: Session, command_id: int, request: HistoryRequest) -> None:
    channel = _channel(session, request.channel)
    if not channel.options.keeps_history:
        raise Error(ErrorCode.NOT_AVAILABLE)
    if (route := route_of(channel)) and route.history:
        check_subscribed(session, channel, "history", route.read_unsubscribed)
        await route.history(session, channel)
    else:
        check_may(session, channel, may_read_history)
    most = session.node.client.history_max_publication_limit
    limit = most if request.limit < 0 else min(request.limit, most)
    publications, top = await session.node.history(channel, HistoryFilter(limit, request.since, request.reverse))
    session.answer(command_id, HistoryResult(publications, top.offset, top.epoch))


async def rpc(session: Session, command_id: int, request: RPCRequest) -> None:
    if session.application.rpc is None:
        nobody = session.application is NO_APPLICATION
        raise Error(ErrorCode.NOT_AVAILABLE if nobody else ErrorCode.METHOD_NOT_FOUND)
    session.answer(command_id, RPCResult(await session.application.rpc(session, request)))


async def send(session: Session, _id: int, request: SendRequest) -> None:
    """No application is attached to listen."""
    raise Disconnect(DisconnectCode.NOT_AVAILABLE)


def _channel(session: Session, name: str) -> Channel:
    if not name:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    channel = session.channel(name)
    if channel.users is not None and channel.shuts_out(session.user) and not is_subscribed(session, channel):
        raise Error(ErrorCode.PERMISSION_DENIED)
    return channel


async def _presence_channel(session: Session, name: str) -> Channel:
    channel = _channel(session, name)
    if not channel.options.presence:
        raise Error(ErrorCode.NOT_AVAILABLE)
    if (route := route_of(channel)) and route.presence:
        check_subscribed(session, channel, "presence", route.read_unsubscribed)
        await route.presence(session, channel)
    else:
        check_may(session, channel, may_read_presence)
    return channel
