"""The methods of the server API: what a backend may ask of the whole cluster.

Source: Centrifuge protocol, "Server HTTP API".
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict

from msgspec import Raw, Struct, convert, structs

from gateway.auth.permissions import is_json
from gateway.batches import batches
from gateway.blocks.base import FOR_EVER
from gateway.brokers.base import HistoryFilter, PublishOptions
from gateway.channels import Channel
from gateway.core.cluster import DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.core.node import Node
from gateway.core.tasks import at_once
from gateway.errors import Disconnect, DisconnectCode, Error, ErrorCode, UnsubscribeCode
from gateway.messages import Payload, Publication
from gateway.protocols.centrifuge_json import encode, wire_publication
from gateway.web import api_messages as api
from gateway.web import map_messages, map_methods
from gateway.web.arguments import decode, find_channel, published
from gateway.web.bodies import Read, reader

MEMBERS = 2000
"""Members of a channel written in one go: more would hold up everybody else."""

FAIR = 5_000
"""Channels that are made ready for an answer before others have their turn."""


class Method(Struct, frozen=True):
    """One method: what it takes, what it answers, and how."""

    request: type[Any]
    result: type[Any]
    call: Callable[[Node, Any], Awaitable[Any]]


async def publish(node: Node, request: api.PublishRequest) -> api.PublishResult:
    channel = find_channel(node, request.channel)
    publication, extras = _publication(request, channel)
    position = await node.publish(channel, publication, extras)
    return api.PublishResult(position.offset, position.epoch)


async def broadcast(node: Node, request: api.BroadcastRequest) -> api.BroadcastResult:
    if not request.channels:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: channels must be a list of at least one channel")

    async def one(name: str) -> api.PublishReply:
        try:
            channel = find_channel(node, name)
            position = await node.publish(channel, *_publication(request, channel))
        except Error as error:
            return api.PublishReply(error=error_body(error))
        return api.PublishReply(api.PublishResult(position.offset, position.epoch))

    return api.BroadcastResult(await at_once(one, request.channels))


async def subscribe(node: Node, request: api.SubscribeRequest) -> api.Done:
    channel = find_channel(node, request.channel)
    if channel.options.is_map:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: clients subscribe to maps by themselves")
    if channel.options.is_polled:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is polled, and clients subscribe by themselves")
    if 0 < request.expire_at <= node.clock():
        raise Error(ErrorCode.BAD_REQUEST, "bad request: expire_at must be in the future, in Unix seconds; 0 is never")
    flags = structs.asdict(request.override) if request.override else {}
    await node.cluster.command(
        SubscribeUser(
            **_target(request),
            channel=channel.name,
            info=_payload(request.info, request.b64info),
            data=_payload(request.data, request.b64data),
            override={name: flag.value for name, flag in flags.items() if flag is not None},
            expire_at=max(request.expire_at, 0),
            since=request.recover_since,
        )
    )
    return api.Done()


async def unsubscribe(node: Node, request: api.UnsubscribeRequest) -> api.Done:
    code = UnsubscribeCode.SERVER
    await node.cluster.command(
        UnsubscribeUser(
            **_target(request),
            channel=find_channel(node, request.channel).name,
            code=code,
            reason=code.reason,
        )
    )
    return api.Done()


async def disconnect(node: Node, request: api.DisconnectRequest) -> api.Done:
    wanted = request.disconnect or api.DisconnectReason()
    try:
        ending = Disconnect(wanted.code or DisconnectCode.FORCE_DISCONNECT, wanted.reason).check()
    except ValueError as error:
        raise Error(ErrorCode.BAD_REQUEST, f"bad request: disconnect.{error}") from error
    await node.cluster.command(
        DisconnectUser(**_target(request), whitelist=request.whitelist, code=ending.code, reason=ending.reason)
    )
    return api.Done()


async def refresh(node: Node, request: api.RefreshRequest) -> api.Done:
    await node.cluster.command(
        RefreshUser(
            **_target(request),
            expired=request.expired,
            expire_at=request.expire_at,
            info=_payload(request.info, ""),
        )
    )
    return api.Done()


async def block_user(node: Node, request: api.BlockUserRequest) -> api.Done:
    seconds = FOR_EVER if request.expire_at == 0 else request.expire_at - node.clock()
    if seconds <= 0:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: expire_at must be in the future, in Unix seconds")
    await node.blocked.store.block(_user(request.user), seconds)
    return api.Done()


async def unblock_user(node: Node, request: api.UnblockUserRequest) -> api.Done:
    await node.blocked.store.unblock(_user(request.user))
    return api.Done()


async def blocked_users(node: Node, request: api.BlockedUsersRequest) -> api.BlockedUsersResult:
    page, cursor = node.blocked.page(request.limit, request.cursor)
    users = [api.BlockedUser(user, 0 if until == FOR_EVER else round(until)) for user, until in page.items()]
    return api.BlockedUsersResult(users, cursor)


async def presence(node: Node, request: api.PresenceRequest) -> api.PresenceResult:
    channel = find_channel(node, request.channel)
    if request.limit > 0:
        return api.PresenceResult(*await node.presence_page(channel, min(request.limit, MEMBERS), request.cursor))
    written: list[bytes] = []
    cursor = request.cursor
    while cursor or not written:
        members, cursor = await node.presence_page(channel, MEMBERS, cursor)
        written.append(encode(members)[1:-1])
    return api.PresenceResult(Raw(b"{%b}" % b",".join(filter(None, written))))


async def presence_stats(node: Node, request: api.PresenceStatsRequest) -> api.PresenceStatsResult:
    return api.PresenceStatsResult(*await node.presence_stats(find_channel(node, request.channel)))


async def history(node: Node, request: api.HistoryRequest) -> api.HistoryResult:
    which = HistoryFilter(max(request.limit, -1), request.since, request.reverse)
    publications, top = await node.history(find_channel(node, request.channel), which)
    return api.HistoryResult([_stored(each) for each in publications], top.offset, top.epoch)


async def history_remove(node: Node, request: api.HistoryRemoveRequest) -> api.Done:
    await node.remove_history(find_channel(node, request.channel))
    return api.Done()


async def channels(node: Node, request: api.ChannelsRequest) -> api.ChannelsResult:
    if max(len(request.pattern), len(request.cursor)) > node.settings.channel.max_length:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: pattern or cursor is longer than a channel's name may be")
    found = await node.cluster.survey("channels", request.pattern, request.cursor, request.limit)
    counts: dict[str, api.ChannelCount] = {}
    for some in batches(found.items(), FAIR):
        counts |= {name: api.ChannelCount(count) for name, count in some}
        await asyncio.sleep(0)
    return api.ChannelsResult(counts, found.cursor, found.partial, found.missing)


async def info(node: Node, _request: api.InfoRequest) -> api.InfoResult:
    return api.InfoResult(convert(node.cluster.nodes(), list[api.NodeResult], from_attributes=True))


async def shared_poll_publish(node: Node, request: api.SharedPollPublishRequest) -> api.Done:
    if not request.key or not request.version:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: key and version must be given, and version be more than 0")
    if max(len(request.key.encode()), len(request.epoch.encode())) > node.settings.client.message_size_limit:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: key or epoch is longer than a client's command may be")
    channel = find_channel(node, request.channel)
    if not channel.options.is_polled:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: no backend is polled for the channel")
    if not channel.options.shared_poll.publish_enabled:
        raise Error(ErrorCode.NOT_AVAILABLE, "not available: set shared_poll.publish_enabled for the namespace")
    data, binary = published(request.data, request.b64data, channel)
    publication = Publication(data, key=request.key, epoch=request.epoch, binary=binary)
    await node.publish(channel, publication, PublishOptions(version=request.version))
    return api.Done()


async def rpc(_node: Node, request: api.RPCRequest) -> api.Done:
    """No application is attached to answer."""
    if not request.method:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: method must be given")
    raise Error(ErrorCode.METHOD_NOT_FOUND)


METHODS: Mapping[str, Method] = {
    "publish": Method(api.PublishRequest, api.PublishResult, publish),
    "broadcast": Method(api.BroadcastRequest, api.BroadcastResult, broadcast),
    "subscribe": Method(api.SubscribeRequest, api.Done, subscribe),
    "unsubscribe": Method(api.UnsubscribeRequest, api.Done, unsubscribe),
    "disconnect": Method(api.DisconnectRequest, api.Done, disconnect),
    "refresh": Method(api.RefreshRequest, api.Done, refresh),
    "block_user": Method(api.BlockUserRequest, api.Done, block_user),
    "unblock_user": Method(api.UnblockUserRequest, api.Done, unblock_user),
    "blocked_users": Method(api.BlockedUsersRequest, api.BlockedUsersResult, blocked_users),
    "presence": Method(api.PresenceRequest, api.PresenceResult, presence),
    "presence_stats": Method(api.PresenceStatsRequest, api.PresenceStatsResult, presence_stats),
    "history": Method(api.HistoryRequest, api.HistoryResult, history),
    "history_remove": Method(api.HistoryRemoveRequest, api.Done, history_remove),
    "channels": Method(api.ChannelsRequest, api.ChannelsResult, channels),
    "info": Method(api.InfoRequest, api.InfoResult, info),
    "map_publish": Method(map_messages.MapPublishRequest, map_messages.MapWriteResult, map_methods.publish),
    "map_remove": Method(map_messages.MapRemoveRequest, map_messages.MapWriteResult, map_methods.remove),
    "map_read_state": Method(map_messages.MapReadStateRequest, map_messages.MapStateResult, map_methods.read_state),
    "map_read_stream": Method(map_messages.MapReadStreamRequest, map_messages.MapStreamResult, map_methods.read_stream),
    "map_stats": Method(map_messages.MapStatsRequest, map_messages.MapStatsResult, map_methods.stats),
    "map_clear": Method(map_messages.MapClearRequest, api.Done, map_methods.clear),
    "shared_poll_publish": Method(api.SharedPollPublishRequest, api.Done, shared_poll_publish),
    "rpc": Method(api.RPCRequest, api.Done, rpc),
}


READERS: Mapping[str, Read] = {name: reader(method.request) for name, method in METHODS.items()}
"""Each reads what its method takes."""


async def measured(node: Node, name: str, request: Any) -> Any:
    """What the method answers; its time is kept, and its errors are counted."""
    began = node.wheel.clock()
    try:
        return await METHODS[name].call(node, request)
    except Error as error:
        node.metrics.api_errors[name, error.code] += 1
        raise
    finally:
        node.metrics.api_time[name].observe(node.wheel.clock() - began)


def error_body(error: Error) -> api.ErrorBody:
    message = "not found" if error.code == ErrorCode.METHOD_NOT_FOUND else error.message
    return api.ErrorBody(error.code, message, error.temporary)


def _publication(request: api.Publishing, channel: Channel) -> tuple[Publication, PublishOptions]:
    if channel.options.is_map:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: the channel is a map; its keys are set by map_publish")
    data, binary = published(request.data, request.b64data, channel)
    publication = Publication(data, tags=request.tags, binary=binary)
    extras = PublishOptions(
        request.skip_history,
        request.idempotency_key,
        request.version,
        request.version_epoch,
        delta=request.delta or None,
    )
    return publication, extras


def _user(user: str) -> str:
    if not user:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: user must be given, and not be empty")
    return user


class _Target(TypedDict):
    user: str
    client: str
    session: str


def _target(request: api.Addressed) -> _Target:
    if request.user is None:
        raise Error(ErrorCode.BAD_REQUEST, "bad request: user must be given; an empty one means anonymous clients")
    return {"user": request.user, "client": request.client, "session": request.session}


def _payload(plain: Raw, encoded: str) -> Payload | None:
    data = decode(encoded) if encoded else bytes(plain)
    if data in (b"", b"null"):
        return None
    if encoded and not is_json(data):
        raise Error(ErrorCode.BAD_REQUEST, "bad request: b64info and b64data must hold JSON")
    return Payload(data)


def _stored(publication: Publication) -> Any:
    if not publication.binary:
        return wire_publication(publication)
    fields = {"data": None, "b64data": base64.b64encode(publication.data).decode(), "offset": publication.offset}
    return {**fields, **({"tags": publication.tags} if publication.tags else {})}
