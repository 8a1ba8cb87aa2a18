"""PyPI ``centrifuge-python``: clients in this process."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import centrifuge  # type: ignore[import-untyped]

from tests.integration.clients.base import (
    PING_DELAY,
    SDK,
    CallFailed,
    Client,
    Event,
    GetState,
    GetToken,
    History,
    Info,
    Log,
    Subscription,
    Unauthorized,
)
from tests.waiting import until

T = TypeVar("T")


class PythonSDK(SDK):
    name = "python"
    library = "centrifuge-python"

    def __init__(self) -> None:
        self._clients: list[PythonClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.end()

    async def client(self, url: str, token: str = "", get_token: GetToken | None = None) -> Client:
        client = PythonClient(url, token, get_token, self.protobuf)
        self._clients.append(client)
        return client


class PythonProtobufSDK(PythonSDK):
    name = "python-protobuf"
    protobuf = True


class PythonSubscription(Subscription):
    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.subscription: Any = None

    async def begin(self) -> None:
        await self.subscription.subscribe()

    async def unsubscribe(self) -> None:
        await self.subscription.unsubscribe()


class PythonClient(Client):
    def __init__(self, url: str, token: str, get_token: GetToken | None, protobuf: bool) -> None:
        super().__init__()
        self._begun: asyncio.Task[None] | None = None
        self._client = centrifuge.Client(
            url,
            events=_ClientEvents(self.events),
            token=token,
            get_token=_callback(get_token),
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            max_server_ping_delay=PING_DELAY,
            proxy=None,
            use_protobuf=protobuf,
        )
        self._wrap = _to_bytes if protobuf else _as_it_is

    async def begin(self) -> None:
        # connect() of this SDK returns after its first attempt, successful or not
        self._begun = asyncio.create_task(self._client.connect())
        await asyncio.sleep(0)

    async def disconnect(self) -> None:
        await self._client.disconnect()
        if self._begun is not None:
            await self._begun

    async def end(self) -> None:
        """Disconnect, and wait until the connection is closed: the SDK leaves that to a task of its own."""
        await self.disconnect()
        await until(lambda: not self._client._background_tasks)

    async def flicker(self) -> None:
        await self.begin()
        await self.disconnect()

    async def state(self) -> str:
        return str(self._client.state.value)

    async def subscription(
        self,
        channel: str,
        *,
        token: str = "",
        get_token: GetToken | None = None,
        recoverable: bool = False,
        positioned: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        tags_filter: dict[str, Any] | None = None,
        get_state: GetState | None = None,
    ) -> Subscription:
        subscription = PythonSubscription(channel)
        subscription.subscription = self._client.new_subscription(
            channel,
            events=_SubscriptionEvents(subscription.events, channel),
            token=token,
            get_token=_channel_callback(get_token),
            recoverable=recoverable,
            positioned=positioned,
            join_leave=join_leave,
            delta=centrifuge.DeltaType.FOSSIL if delta else None,
            tags_filter=centrifuge.FilterNode(tags_filter) if tags_filter else None,
            get_state=_state_callback(get_state),
            min_resubscribe_delay=0.05,
            max_resubscribe_delay=0.5,
        )
        return subscription

    async def remove(self, subscription: Subscription) -> None:
        assert isinstance(subscription, PythonSubscription)
        self._client.remove_subscription(subscription.subscription)

    async def publish(self, channel: str, *items: Any) -> None:
        await _call(asyncio.gather(*(self._client.publish(channel, self._wrap(item)) for item in items)))

    async def presence(self, channel: str) -> dict[str, Info]:
        result = await _call(self._client.presence(channel))
        return {client: _info(info) for client, info in result.clients.items()}

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        result = await _call(self._client.presence_stats(channel))
        return result.num_clients, result.num_users

    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, reverse: bool = False
    ) -> History:
        position = centrifuge.StreamPosition(*since) if since is not None else None
        page = await _call(self._client.history(channel, limit=limit, since=position, reverse=reverse))
        return History([_publication(each, channel) for each in page.publications], page.offset, page.epoch)

    async def rpc(self, method: str, data: Any) -> Any:
        return _data((await _call(self._client.rpc(method, self._wrap(data)))).data)


class _ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc]
    def __init__(self, log: Log) -> None:
        self._log = log

    async def on_connecting(self, ctx: Any) -> None:
        self._log.append(Event("connecting", code=ctx.code, reason=ctx.reason))

    async def on_connected(self, ctx: Any) -> None:
        self._log.append(Event("connected", client=ctx.client))

    async def on_disconnected(self, ctx: Any) -> None:
        self._log.append(Event("disconnected", code=ctx.code, reason=ctx.reason))

    async def on_error(self, ctx: Any) -> None:
        self._log.append(_error(ctx, None))

    async def on_subscribed(self, ctx: Any) -> None:
        self._log.append(_subscribed(ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._log.append(Event("unsubscribed", ctx.channel))

    async def on_publication(self, ctx: Any) -> None:
        self._log.append(_publication(ctx.pub, ctx.channel))

    async def on_join(self, ctx: Any) -> None:
        self._log.append(Event("join", ctx.channel, info=_info(ctx.info)))

    async def on_leave(self, ctx: Any) -> None:
        self._log.append(Event("leave", ctx.channel, info=_info(ctx.info)))


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, log: Log, channel: str) -> None:
        self._log = log
        self._channel = channel

    async def on_subscribing(self, ctx: Any) -> None:
        self._log.append(Event("subscribing", self._channel, ctx.code, ctx.reason))

    async def on_subscribed(self, ctx: Any) -> None:
        self._log.append(_subscribed(ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._log.append(Event("unsubscribed", self._channel, ctx.code, ctx.reason))

    async def on_publication(self, ctx: Any) -> None:
        self._log.append(_publication(ctx.pub, self._channel))

    async def on_join(self, ctx: Any) -> None:
        self._log.append(Event("join", self._channel, info=_info(ctx.info)))

    async def on_leave(self, ctx: Any) -> None:
        self._log.append(Event("leave", self._channel, info=_info(ctx.info)))

    async def on_error(self, ctx: Any) -> None:
        self._log.append(_error(ctx, self._channel))


def _as_it_is(value: Any) -> Any:
    return value


def _to_bytes(value: Any) -> bytes:
    """What a client that speaks Protobuf sends."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def _data(value: Any) -> Any:
    """What has arrived; of a client that speaks Protobuf bytes, which mostly are JSON."""
    if not isinstance(value, bytes):
        return value
    try:
        return json.loads(value) if value else None
    except ValueError:
        return value


def _info(info: Any) -> Info:
    return Info(info.user, info.client, _data(info.conn_info), _data(info.chan_info))


def _publication(pub: Any, channel: str) -> Event:
    info = _info(pub.info) if pub.info is not None else None
    return Event("publication", channel, data=_data(pub.data), offset=pub.offset, info=info, tags=pub.tags)


def _subscribed(ctx: Any) -> Event:
    position = ctx.stream_position
    return Event(
        "subscribed",
        ctx.channel,
        data=_data(ctx.data),
        offset=position.offset if position is not None else None,
        epoch=position.epoch if position is not None else None,
        positioned=ctx.positioned,
        recoverable=ctx.recoverable,
        was_recovering=ctx.was_recovering,
        recovered=ctx.recovered,
    )


def _error(ctx: Any, channel: str | None) -> Event:
    return Event("error", channel, getattr(ctx.error, "code", ctx.code), str(ctx.error))


def _callback(get_token: GetToken | None) -> Callable[[], Awaitable[str]] | None:
    if get_token is None:
        return None

    async def fetch() -> str:
        try:
            return get_token()
        except Unauthorized as error:
            raise centrifuge.UnauthorizedError from error

    return fetch


def _channel_callback(get_token: GetToken | None) -> Callable[[str], Awaitable[str]] | None:
    fetch = _callback(get_token)
    if fetch is None:
        return None
    return lambda _channel: fetch()


def _state_callback(get_state: GetState | None) -> Callable[[str], Awaitable[Any]] | None:
    if get_state is None:
        return None

    async def load(_channel: str) -> Any:
        return centrifuge.StreamPosition(*get_state())

    return load


async def _call(call: Awaitable[T]) -> T:
    try:
        return await call
    except centrifuge.ReplyError as error:
        raise CallFailed(error.code, error.message) from None
    except centrifuge.CentrifugeError as error:
        raise CallFailed(0, str(error)) from None
