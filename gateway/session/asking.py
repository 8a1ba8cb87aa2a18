"""Publish, presence, history, rpc and send: what a client asks of a channel or of the application."""

from typing import TYPE_CHECKING

from gateway.auth.permissions import check_payload, may_publish, may_read_history, may_read_presence
from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode
from gateway.messages import (
    ClientInfo,
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
    SendRequest,
)
from gateway.session.pipeline import Pipeline

if TYPE_CHECKING:
    from gateway.session.session import Session


async def publish(session: "Session", command_id: int, request: PublishRequest) -> None:
    channel = _channel(session, request.channel)
    insecure = session.node.settings.client.insecure
    if not may_publish(channel.options, session.user, _subscribed(session, channel), insecure=insecure):
        raise Error(ErrorCode.PERMISSION_DENIED)
    data = Payload(request.data)
    check_payload(channel.options, data, known_json=True)
    if session.pipeline is None:
        session.pipeline = Pipeline()
    await session.pipeline.add(_publish(session, command_id, channel, Publication(data, _info(session, channel))))


async def _publish(session: "Session", command_id: int, channel: Channel, publication: Publication) -> None:
    try:
        await session.node.publish(channel, publication)
    except Exception as error:
        session.fail(command_id, error)
    else:
        session.answer(command_id, PublishResult())


async def presence(session: "Session", command_id: int, request: PresenceRequest) -> None:
    channel = _presence_channel(session, request.channel)
    session.answer(command_id, PresenceResult(await session.node.presence(channel)))


async def presence_stats(session: "Session", command_id: int, request: PresenceStatsRequest) -> None:
    channel = _presence_channel(session, request.channel)
    session.answer(command_id, PresenceStatsResult(*await session.node.presence_stats(channel)))


async def history(session: "Session", command_id: int, request: HistoryRequest) -> None:
    channel = _channel(session, request.channel)
    if not channel.options.keeps_history:
        raise Error(ErrorCode.NOT_AVAILABLE)
    insecure = session.node.settings.client.insecure
    if not may_read_history(channel.options, session.user, _subscribed(session, channel), insecure=insecure):
        raise Error(ErrorCode.PERMISSION_DENIED)
    most = session.node.settings.client.history_max_publication_limit
    limit = most if request.limit < 0 else min(request.limit, most)
    publications, top = await session.node.history(channel, HistoryFilter(limit, request.since, request.reverse))
    session.answer(command_id, HistoryResult(publications, top.offset, top.epoch))


async def rpc(session: "Session", _id: int, request: RPCRequest) -> None:
    """No application is attached to answer."""
    raise Error(ErrorCode.METHOD_NOT_FOUND)


async def send(session: "Session", _id: int, request: SendRequest) -> None:
    """No application is attached to listen."""
    raise Disconnect(DisconnectCode.NOT_AVAILABLE)


def _channel(session: "Session", name: str) -> Channel:
    if not name:
        raise Disconnect(DisconnectCode.BAD_REQUEST)
    return session.node.channels.resolve(name)


def _presence_channel(session: "Session", name: str) -> Channel:
    channel = _channel(session, name)
    if not channel.options.presence:
        raise Error(ErrorCode.NOT_AVAILABLE)
    insecure = session.node.settings.client.insecure
    if not may_read_presence(channel.options, session.user, _subscribed(session, channel), insecure=insecure):
        raise Error(ErrorCode.PERMISSION_DENIED)
    return channel


def _subscribed(session: "Session", channel: Channel) -> bool:
    subscription = session.subscriptions.get(channel.name)
    return subscription is not None and subscription.live


def _info(session: "Session", channel: Channel) -> ClientInfo:
    """Who publishes: as the channel knows the client if it is subscribed, else as the connection does."""
    subscription = session.subscriptions.get(channel.name)
    return subscription.info if subscription else ClientInfo(session.user, session.client, session.info)
