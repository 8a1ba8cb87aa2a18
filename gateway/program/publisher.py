"""A publisher for programs without event loop: scripts, Celery tasks, Django views.

It needs nothing but Redis and the settings of the nodes ::

    publisher = Publisher()  # settings from file and environment, as "gateway serve" reads them
    publisher.publish("chat:lobby", {"text": "hi"})

Channels that a program declares, rather than the settings, are known to `Gateway.publisher`.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, Unpack

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from gateway.batches import batches
from gateway.blocks.base import block_seconds
from gateway.blocks.redis import block_call, check_blocked, unblock_call
from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.calls import Call, control_call, publish_call, read_receipt
from gateway.brokers.publish_queue import failure
from gateway.brokers.sharded import stamped
from gateway.channels import Channels, check_names
from gateway.config.settings import Settings
from gateway.config.sources import load
from gateway.core.cluster import disconnection, named, seal
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, SettingsError
from gateway.jump import jump
from gateway.messages import Publication, Receipt
from gateway.program.blocking import BlockingShard, UnreachableError, open_blocking
from gateway.program.commits import CommitOutbox, Message, Options
from gateway.program.encoding import encode_publication
from gateway.program.errors import check_publication, check_version, find_channel
from gateway.redis.resp import CommandRefused

if TYPE_CHECKING:
    from gateway.program.commits import AnySession

CALLS_PER_WRITE = 500
"""Publications of one broadcast sent together: more would keep Redis from everybody else."""


class Publisher:
    """Publishes to the channels of a running cluster.

    May be shared by threads, and used on both sides of a fork. Nothing waits and nothing is tried twice: while Redis is
    away, every call raises ``BrokerUnavailable``, at the latest after the timeouts of engine.redis. Its ``stored`` is
    ``no`` if nothing was published, and ``maybe`` if that is not known; with an idempotency key any may be repeated.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        channels: Channels | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens no connection yet. Raises ``SettingsError`` for settings by which no node could be reached."""
        settings = load(embedded=True) if settings is None else settings
        if settings.engine.type == "memory":
            raise SettingsError(
                'engine.type = "memory": a publisher of another process needs Redis; set engine.type = "redis" and, '
                'for example, engine.redis.address = "redis://127.0.0.1:6379", or GATEWAY_REDIS_URL for short'
            )
        if settings.engine.type == "postgres":
            raise SettingsError(
                'engine.type = "postgres": a program without event loop publishes by SQL, in a transaction of its own '
                "connection: SELECT gateway_publish('chat:lobby', '{\"text\": \"hi\"}')"
            )
        if settings.engine.type == "broadcaster":
            raise SettingsError(
                'engine.type = "broadcaster": a publisher of another process needs Redis; send an HTTP request to '
                '/api/publish of any node, with http_api.key, or let engine.type = "redis" join the nodes'
            )
        self._channels = channels or Channels(
            settings.channel, personal=settings.client.subscribe_to_user_personal_channel, pusher=settings.pusher
        )
        self._clock = clock
        self._shards = open_blocking(settings.engine.redis)
        self._uid = uuid.uuid4().hex

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A later call would open one again."""
        for shard in self._shards:
            shard.close()

    def publish(self, channel: str, data: Any, **options: Unpack[Options]) -> Receipt:
        """Publish any value, ``bytes`` as a binary publication; returns once Redis has accepted it.

        The position is empty where the channel keeps no history. A repeat with the same ``idempotency_key`` within
        five minutes publishes nothing and answers as the first did. Raises ``BrokerUnavailable``, ``Error`` for a
        name or data that the channel does not take, and ``TypeError`` for data that is no JSON.
        """
        return self.broadcast([channel], data, **options)[0]

    def broadcast(
        self,
        channels: Iterable[str],
        data: Any,
        *,
        tags: dict[str, str] | None = None,
        idempotency_key: str = "",
        skip_history: bool = False,
        delta: bool = False,
        version: int = 0,
        version_epoch: str = "",
    ) -> list[Receipt]:
        """Publish the same to many channels; raises as ``publish`` does.

        Nothing is published if one of the names is wrong; if Redis fails, some of them may have been served.
        """
        check_names(channels)
        publication = encode_publication(data, tags)
        check_version(version)
        options = PublishOptions(skip_history, idempotency_key, version, version_epoch, delta=delta or None)
        streams = [(name, self._stream(name, publication)) for name in channels]
        now = self._clock()
        shares: dict[BlockingShard, list[tuple[int, Call]]] = {}
        for number, (name, stream) in enumerate(streams):
            shard = self._of(name)
            call = publish_call(shard.keys, name, publication, stream, options, now)
            shares.setdefault(shard, []).append((number, call))
        receipts: dict[int, Receipt] = {}
        failures: list[BrokerUnavailable] = []
        for shard, calls in shares.items():
            try:
                answers = self._run(shard, [call for _, call in calls])
            except BrokerUnavailable as error:
                failures.append(error)
            else:
                receipts |= zip([number for number, _ in calls], map(read_receipt, answers), strict=True)
        if failures:
            sent = bool(receipts) or any(each.stored != "no" for each in failures)
            raise failure(sent=sent) from failures[0].__cause__
        return [receipts[number] for number in range(len(streams))]

    def publish_to_user(self, user: str | int, data: Any, **options: Unpack[Options]) -> Receipt:
        """Publish to the user's personal channel; raises as ``publish`` does.

        ``SettingsError`` if the nodes give their users none.
        """
        return self.publish(self._channels.of_user(user), data, **options)

    def disconnect(
        self,
        user: str | int = "",
        *,
        client: str = "",
        code: int = DisconnectCode.FORCE_DISCONNECT,
        reason: str | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        """Close all connections of a user, or one ``client`` alone, on all nodes; those in ``keep`` stay.

        Codes from 4000 to 4999 are yours; from 4500 on, and from 3500 to 3999, clients do not come back.
        """
        command = disconnection(user, client, Disconnect(code, reason), keep)
        self._run_everywhere(seal(self._uid, command))

    def block(self, user: str | int, *, for_: float | timedelta | None = None) -> None:
        """Keep a user out of all nodes, for so many seconds, or until `unblock`; see `Gateway.block`."""
        shard = self._of(named(user))
        [answer] = self._run(shard, [block_call(shard.keys, named(user), block_seconds(for_))])
        check_blocked(answer)

    def unblock(self, user: str | int) -> None:
        """Let a user in again; nothing happens if it is not blocked."""
        shard = self._of(named(user))
        self._run(shard, [unblock_call(shard.keys, named(user))])

    def on_commit(self, session: "AnySession") -> CommitOutbox:
        """An outbox whose publications leave when the SQLAlchemy session commits, and vanish when it rolls back."""
        return CommitOutbox(session, self._deliver, self._check)

    def _deliver(self, message: Message) -> None:
        self.publish(message.channel, message.data, **message.options)

    def _check(self, message: Message) -> None:
        self._stream(message.channel, encode_publication(message.data))

    def _stream(self, name: str, publication: Publication) -> StreamOptions:
        """How the channel keeps its stream. Raises ``ChannelError`` if it does not take the publication."""
        channel = find_channel(self._channels, name)
        check_publication(channel, publication)
        options = channel.options
        return StreamOptions(
            options.history_size, options.history_ttl, options.history_meta_ttl, delta_publish=options.delta_publish
        )

    # — Redis —

    def _of(self, name: str) -> BlockingShard:
        """Where what belongs to a channel, or to a user, is kept."""
        return self._shards[jump(name, len(self._shards))]

    def _run(self, shard: BlockingShard, calls: Sequence[Call]) -> list[Any]:
        """Answers of all calls, in order. Raises ``BrokerUnavailable`` if one has failed, after trying the rest."""
        answers: list[Any] = []
        try:
            for some in batches(calls, CALLS_PER_WRITE):
                answers += shard.run(some)
        except RedisError as error:
            unsent = not answers and isinstance(error, UnreachableError)
            raise BrokerUnavailable(stored="no" if unsent else "maybe") from error
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        if refused:
            # Perhaps this server is not, or no longer, the one to write to: resolve its name anew next time.
            shard.forget()
            undone = len(refused) == len(answers) and all(map(_undone, refused))
            raise BrokerUnavailable(stored="no" if undone else "maybe") from refused[0]
        return answers

    def _run_everywhere(self, data: bytes) -> None:
        """Tell all nodes, by each of several shards; one that takes it is enough."""
        data = data if len(self._shards) == 1 else stamped(data)
        failures: list[BrokerUnavailable] = []
        for shard in self._shards:
            try:
                self._run(shard, [control_call(shard.keys, data)])
            except BrokerUnavailable as error:
                failures.append(error)
        if len(failures) == len(self._shards):
            raise failures[0]


_CODES: dict[type[Exception], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
    AuthenticationError: "NOAUTH",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    ClusterCrossSlotError: "CROSSSLOT",
    MovedError: "MOVED",
    AskError: "ASK",
    TryAgainError: "TRYAGAIN",
}
"""What redis-py tells by the class alone, and takes out of the text."""


def _undone(refused: Exception) -> bool:
    """Whether the command has changed nothing."""
    return CommandRefused(f"{_CODES.get(type(refused), '')} {refused}".lstrip()).stored == "no"
