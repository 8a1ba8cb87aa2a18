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

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from gateway.batches import batches
from gateway.blocks.base import block_seconds
from gateway.blocks.redis import block_call, check_blocked, unblock_call
from gateway.brokers.base import PublishOptions, StreamOptions
from gateway.brokers.calls import Call, control_call, publish_call, read_receipt
from gateway.channels import Channels, check_names
from gateway.config.settings import RedisSettings, Settings
from gateway.config.sources import load
from gateway.core.cluster import disconnection, named, seal
from gateway.errors import BrokerUnavailable, Disconnect, DisconnectCode, SettingsError
from gateway.messages import Publication, Receipt
from gateway.program.commits import CommitOutbox, Message, Options
from gateway.program.encoding import encode_publication
from gateway.program.errors import check_publication, find_channel
from gateway.redis.endpoint import Endpoint
from gateway.redis.keys import Keys
from gateway.redis.resp import Argument

if TYPE_CHECKING:
    from gateway.program.commits import AnySession

CALLS_PER_WRITE = 500
"""Publications of one broadcast sent together: more would keep Redis from everybody else."""


class Publisher:
    """Publishes to the channels of a running cluster.

    May be shared by threads, and used on both sides of a fork. Nothing is tried twice: while Redis is away, every
    call raises ``BrokerUnavailable``, at the latest after the timeouts of engine.redis. Whether a publication whose
    call has failed was published is not known; with an idempotency key it may be repeated safely.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        channels: Channels | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens no connection yet. Raises ``SettingsError`` for settings by which no node could be reached."""
        settings = load() if settings is None else settings
        if settings.engine.type == "memory":
            raise SettingsError(
                'engine.type = "memory": a publisher of another process needs Redis; set engine.type = "redis" and, '
                'for example, engine.redis.address = "redis://127.0.0.1:6379", or GATEWAY_REDIS_URL for short'
            )
        if settings.engine.type == "broadcaster":
            raise SettingsError(
                'engine.type = "broadcaster": a publisher of another process needs Redis; send an HTTP request to '
                '/api/publish of any node, with http_api.key, or let engine.type = "redis" join the nodes'
            )
        self._channels = channels or Channels(
            settings.channel, personal=settings.client.subscribe_to_user_personal_channel
        )
        self._clock = clock
        self._keys = Keys(settings.engine.redis.prefix)
        self._pool = _connection_pool(settings.engine.redis)
        self._redis = Redis(connection_pool=self._pool)
        self._uid = uuid.uuid4().hex

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A later call would open one again."""
        self._pool.disconnect()

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
    ) -> list[Receipt]:
        """Publish the same to many channels; raises as ``publish`` does.

        Nothing is published if one of the names is wrong; if Redis fails, some of them may have been served.
        """
        check_names(channels)
        publication = encode_publication(data, tags)
        options = PublishOptions(skip_history=skip_history, idempotency_key=idempotency_key)
        streams = [(name, self._stream(name, publication)) for name in channels]
        now = self._clock()
        answers = self._run([publish_call(self._keys, name, publication, at, options, now) for name, at in streams])
        return [read_receipt(answer) for answer in answers]

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
        self._run([control_call(self._keys, seal(self._uid, command))])

    def block(self, user: str | int, *, for_: float | timedelta | None = None) -> None:
        """Keep a user out of all nodes, for so many seconds, or until `unblock`; see `Gateway.block`."""
        [answer] = self._run([block_call(self._keys, named(user), block_seconds(for_))])
        check_blocked(answer)

    def unblock(self, user: str | int) -> None:
        """Let a user in again; nothing happens if it is not blocked."""
        self._run([unblock_call(self._keys, named(user))])

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
        return StreamOptions(options.history_size, options.history_ttl, options.history_meta_ttl)

    # — Redis —

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """Answers of all calls, in order. Raises ``BrokerUnavailable`` if one has failed, after trying the rest."""
        answers: list[Any] = []
        try:
            for some in batches(calls, CALLS_PER_WRITE):
                answers += self._run_together(some)
        except RedisError as error:
            raise BrokerUnavailable from error
        refused = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if refused is not None:
            # Perhaps this server is not, or no longer, the one to write to: resolve its name anew next time.
            self._pool.disconnect(inuse_connections=False)
            raise BrokerUnavailable from refused
        return answers

    def _run_together(self, calls: Sequence[Call]) -> list[Any]:
        answers = self._execute([_command(call) for call in calls])
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            scripts = {script for index in unknown if (script := calls[index].script)}
            lessons: list[tuple[Argument, ...]] = [("SCRIPT", "LOAD", script.text) for script in scripts]
            again = self._execute([*lessons, *(_command(calls[index]) for index in unknown)])
            for index, answer in zip(unknown, again[len(lessons) :], strict=True):
                answers[index] = answer
        return answers

    def _execute(self, commands: Iterable[tuple[Argument, ...]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so
            return pipeline.execute(raise_on_error=False)


def _command(call: Call) -> tuple[Argument, ...]:
    return call.script.by_digest(call.keys, call.args) if call.script else ("PUBLISH", *call.keys, *call.args)


def _connection_pool(settings: RedisSettings) -> ConnectionPool:
    Endpoint.parse(settings.address)  # says what is wrong with an address, and takes what nodes take
    address = settings.address
    return ConnectionPool.from_url(
        address if "://" in address else f"redis://{address}",
        socket_connect_timeout=settings.connect_timeout,
        socket_timeout=settings.io_timeout,
        retry=Retry(NoBackoff(), 0),
        client_name=f"{settings.prefix}-publisher",
        protocol=2,
    )
