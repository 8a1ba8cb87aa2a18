"""Publications that are bound to a database transaction: they leave when it commits, and only then."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from msgspec import Struct

from gateway.program.encoding import encode_publication
from gateway.program.keywords import check_keywords

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

    AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]

logger = logging.getLogger(__name__)

_KEY = "gateway.program.commits"
"""Where a session keeps what waits for it, in ``Session.info``."""


class Options(TypedDict, total=False):
    """What may be said of a publication besides its data."""

    tags: dict[str, str] | None
    idempotency_key: str
    skip_history: bool
    delta: bool
    version: int
    version_epoch: str


class Message(Struct, frozen=True):
    """A publication that waits for a commit. ``data`` is JSON if it is a ``Payload``, and binary otherwise."""

    channel: str
    data: bytes
    options: Options


Deliver = Callable[[Message], None]


class CommitOutbox:
    """Publishes what belongs to a session's transaction as soon as that has been committed.

    ::

        outbox = CommitOutbox(session, deliver)
        session.add(order)
        outbox.publish("orders:7", {"state": "paid"})
        session.commit()  # now it leaves; a rollback would have dropped it

    It follows the session: what is published within a savepoint is dropped when that is rolled back, and waits for
    the outer commit when it is released; closing the session without commit drops all. Outboxes of one session
    share one queue, so that everything leaves in the order in which it was published. A transaction around the session
    (``join_transaction_mode="create_savepoint"``) is not seen: all leaves when the session commits, even if that one is
    rolled back afterwards.

    The promise is at most once: a process that dies between commit and publish, or a broker that is away just then,
    loses the publication, and the transaction stands. Where that is too little, write the publications to a table
    within the transaction, and have a worker publish its rows and delete them (a transactional outbox), with the
    row's id as idempotency key.
    """

    def __init__(self, session: "AnySession", deliver: Deliver, check: Deliver | None = None) -> None:
        """``deliver`` is called after the commit, in the thread that commits. What it raises is logged.

        ``check`` is called by ``publish``, to refuse at once what would fail after the commit.
        """
        self._session = _plain_session(session)
        self._queue = _queue_of(self._session)
        self._deliver = deliver
        self._check = check

    def publish(self, channel: str, data: Any, **options: Unpack[Options]) -> None:
        """Publish with the commit. The data is encoded now, so that later changes of it do not matter.

        Begins the session's transaction, as adding an object would. Raises ``TypeError`` for data that is no JSON.
        """
        check_keywords("publish()", options, Options.__annotations__)
        publication = encode_publication(data)
        encoded = bytes(publication.data) if publication.binary else publication.data
        if tags := options.get("tags"):
            options["tags"] = dict(tags)
        message = Message(channel, encoded, options)
        if self._check is not None:
            self._check(message)
        self._queue.add(self._session, self._deliver, message)


class _Queue:
    """What waits for the transactions of one session, in the order of publishing."""

    def __init__(self) -> None:
        self._waiting: dict[SessionTransaction, list[tuple[Deliver, Message]]] = {}
        self._committed: SessionTransaction | None = None

    def add(self, session: "Session", deliver: Deliver, message: Message) -> None:
        if not session.in_transaction():
            session.begin()  # or rollback() and close() would have nothing to end, and nothing to tell us
        self._waiting.setdefault(_innermost(session), []).append((deliver, message))

    def note_commit(self, session: "Session") -> None:
        """The innermost transaction or savepoint has been committed, and ends next."""
        self._committed = _innermost(session)

    def note_end(self, session: "Session", transaction: "SessionTransaction") -> None:
        """A transaction or savepoint has ended, and its connections are given back."""
        committed = transaction is self._committed
        if committed:
            self._committed = None
        messages = self._waiting.pop(transaction, None)
        if not messages or not committed:
            return
        if transaction.nested:
            self._waiting.setdefault(_innermost(session), []).extend(messages)
            return
        for deliver, message in messages:
            try:
                deliver(message)
            except Exception:  # the transaction stands, and so do the messages behind this one
                logger.exception("a publication to %s was committed and could not be published", message.channel)


def _queue_of(session: "Session") -> _Queue:
    queue: _Queue | None = session.info.get(_KEY)
    if queue is None:
        from sqlalchemy import event

        queue = session.info[_KEY] = _Queue()
        event.listen(session, "after_commit", queue.note_commit)
        event.listen(session, "after_transaction_end", queue.note_end)
    return queue


def _innermost(session: "Session") -> "SessionTransaction":
    transaction = session.get_nested_transaction() or session.get_transaction()
    assert transaction is not None, "only asked within a transaction"
    return transaction


def _plain_session(session: Any) -> "Session":
    """The session proper, behind a registry of sessions or an asynchronous one."""
    from sqlalchemy.orm import Session

    found = session() if callable(session) else session
    found = getattr(found, "sync_session", found)
    if not isinstance(found, Session):
        raise TypeError(f"a SQLAlchemy Session or AsyncSession is needed, not {type(session).__qualname__}")
    return found
