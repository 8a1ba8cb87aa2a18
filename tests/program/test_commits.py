"""What leaves with a commit, and what does not."""

import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine, event, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from gateway.messages import Payload
from gateway.program.commits import CommitOutbox, Message


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="new")


class View(BaseModel):
    state: str


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/orders.db")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/async.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


class Sent(list[Message]):
    """What was delivered."""

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def outbox(session: Session, sent: Sent) -> CommitOutbox:
    return CommitOutbox(session, sent.append)


def test_leaves_on_commit_in_order(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    session.add(Order(id=1))
    outbox.publish("orders:1", 1)
    session.flush()
    outbox.publish("orders:2", 2)
    assert sent == []
    session.commit()
    assert [(each.channel, each.data) for each in sent] == [("orders:1", b"1"), ("orders:2", b"2")]
    session.commit()
    assert len(sent) == 2


def test_message_says_all(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    tags = {"a": "b"}
    outbox.publish("orders:1", View(state="paid"), tags=tags, idempotency_key="k", skip_history=True)
    outbox.publish("orders:1", b"\x00")
    outbox.publish("orders:1", Payload(b"[1]"))
    tags["a"] = "changed"
    session.commit()
    assert sent == [
        Message(
            "orders:1",
            Payload(b'{"state":"paid"}'),
            {"tags": {"a": "b"}, "idempotency_key": "k", "skip_history": True},
        ),
        Message("orders:1", b"\x00", {}),
        Message("orders:1", Payload(b"[1]"), {}),
    ]
    assert [type(each.data) for each in sent] == [Payload, bytes, Payload]


def test_delivered_when_committed_and_given_back(engine: Engine, session: Session) -> None:
    seen: list[tuple[str, bool]] = []

    def deliver(message: Message) -> None:
        with Session(engine) as other:
            seen.append((other.scalars(select(Order.state)).one(), session.in_transaction()))

    session.add(Order(id=1, state="paid"))
    CommitOutbox(session, deliver).publish("orders:1", None)
    session.commit()
    assert seen == [("paid", False)]


def test_encoded_at_publish(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    data = {"state": "paid"}
    outbox.publish("orders:1", data)
    data["state"] = "refunded"
    with pytest.raises(TypeError, match="type object"):
        outbox.publish("orders:1", object())
    session.commit()
    assert sent.data == [b'{"state":"paid"}']


def test_expired_objects_are_not_needed(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    order = Order(id=1, state="paid")
    session.add(order)
    session.flush()
    outbox.publish("orders:1", {"state": order.state})
    session.expire_all()
    session.commit()
    assert sent.data == [b'{"state":"paid"}']


def test_check_refuses_at_publish(session: Session, sent: Sent) -> None:
    def check(message: Message) -> None:
        if message.channel != "right":
            raise ValueError(message.channel)

    outbox = CommitOutbox(session, sent.append, check)
    with pytest.raises(ValueError, match="wrong"):
        outbox.publish("wrong", 1)
    outbox.publish("right", 2)
    session.commit()
    assert sent.data == [b"2"]


def test_keywords_that_there_are_not_are_refused_at_publish(outbox: CommitOutbox) -> None:
    options: Any = {"tgas": {"a": "b"}}
    with pytest.raises(TypeError, match="unexpected keyword argument 'tgas'; did you mean 'tags'"):
        outbox.publish("orders", 1, **options)


@pytest.mark.parametrize("end", [Session.rollback, Session.close, Session.reset, Session.invalidate])
@pytest.mark.parametrize("worked", [True, False])
def test_vanishes_without_commit(
    session: Session, outbox: CommitOutbox, sent: Sent, end: Callable[[Session], None], worked: bool
) -> None:
    if worked:
        session.add(Order(id=1))
        session.flush()
    outbox.publish("orders:1", 1)
    end(session)
    session.commit()
    assert sent == []
    outbox.publish("orders:1", 2)  # the same session goes on
    session.commit()
    assert sent.data == [b"2"]


def test_several_commits(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    for number in range(3):
        session.add(Order(id=number))
        outbox.publish("orders", number)
        session.commit()
        assert len(sent) == number + 1
    outbox.publish("orders", "dropped")
    session.rollback()
    outbox.publish("orders", 3)
    session.commit()
    assert sent.data == [b"0", b"1", b"2", b"3"]


def test_begin_block(engine: Engine, sent: Sent) -> None:
    with Session(engine) as session:
        outbox = CommitOutbox(session, sent.append)
        with session.begin():
            outbox.publish("orders", 1)
            assert sent == []
        assert sent.data == [b"1"]
        with suppress(RuntimeError), session.begin():
            outbox.publish("orders", 2)
            raise RuntimeError("half way")
        with session.begin():
            outbox.publish("orders", 3)
    assert sent.data == [b"1", b"3"]


def test_sessionmaker_begin(engine: Engine, sent: Sent) -> None:
    with sessionmaker(engine).begin() as session:
        CommitOutbox(session, sent.append).publish("orders", 1)
        assert sent == []
    assert sent.data == [b"1"]


def test_commit_that_fails(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    session.add(Order(id=1))
    session.commit()
    session.expunge_all()
    outbox.publish("orders:1", 1)
    session.add(Order(id=1))
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    session.commit()
    assert sent == []


def test_database_that_refuses_the_commit(session: Session, engine: Engine, outbox: CommitOutbox, sent: Sent) -> None:
    def refuse(_connection: object) -> None:
        raise OSError("disk full")

    outbox.publish("orders:1", 1)
    session.add(Order(id=1))
    event.listen(engine, "commit", refuse)
    with pytest.raises(OSError, match="disk full"):
        session.commit()
    event.remove(engine, "commit", refuse)
    session.rollback()
    session.commit()
    assert sent == []


def test_failed_flush(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    session.add(Order(id=1))
    session.commit()
    outbox.publish("orders", "before")
    session.add(Order(id=1))
    session.expunge_all()
    session.add(Order(id=1))
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    outbox.publish("orders", "after")
    session.commit()
    assert sent.data == [b'"after"']


def test_publish_within_a_flush(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    def flushed(_session: Session, _context: object) -> None:
        outbox.publish("orders", "flushed")

    event.listen(session, "after_flush", flushed)
    session.add(Order(id=1))
    session.flush()
    assert sent == []
    session.commit()
    assert sent.data == [b'"flushed"']


def test_publish_within_the_commit(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    def committed(_session: Session) -> None:
        outbox.publish("orders", "at last")

    event.listen(session, "after_commit", committed)
    session.add(Order(id=1))
    session.commit()
    assert sent.data == [b'"at last"']


def test_savepoints(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    outbox.publish("orders", "outer 1")
    with session.begin_nested():
        outbox.publish("orders", "released")
    savepoint = session.begin_nested()
    outbox.publish("orders", "rolled back")
    savepoint.rollback()
    with suppress(RuntimeError), session.begin_nested():
        outbox.publish("orders", "failed")
        raise RuntimeError
    assert sent == []
    outbox.publish("orders", "outer 2")
    session.commit()
    assert sent.data == [b'"outer 1"', b'"released"', b'"outer 2"']


def test_savepoints_within_savepoints(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    with session.begin_nested():
        outbox.publish("orders", 1)
        with session.begin_nested():
            outbox.publish("orders", 2)
        inner = session.begin_nested()
        outbox.publish("orders", "dropped")
        with session.begin_nested():
            outbox.publish("orders", "dropped with the one around it")
        inner.rollback()
        outbox.publish("orders", 3)
    assert sent == []
    session.commit()
    assert sent.data == [b"1", b"2", b"3"]


def test_released_savepoint_goes_with_the_outer_rollback(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    with session.begin_nested():
        outbox.publish("orders", 1)
    session.rollback()
    session.commit()
    assert sent == []


def test_commit_within_a_savepoint_commits_all(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    outbox.publish("orders", 1)
    session.begin_nested()
    outbox.publish("orders", 2)
    session.commit()
    assert sent.data == [b"1", b"2"]


def test_close_within_a_savepoint_drops_all(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    outbox.publish("orders", 1)
    session.begin_nested()
    outbox.publish("orders", 2)
    session.close()
    session.commit()
    assert sent == []


def test_outboxes_of_a_session_are_one(session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    others: list[Message] = []
    again, other = CommitOutbox(session, sent.append), CommitOutbox(session, others.append)
    outbox.publish("orders", 1)
    again.publish("orders", 2)
    other.publish("orders", "elsewhere")
    outbox.publish("orders", 3)
    session.commit()
    assert sent.data == [b"1", b"2", b"3"]
    assert [message.data for message in others] == [b'"elsewhere"']


def test_sessions_are_apart(engine: Engine, session: Session, outbox: CommitOutbox, sent: Sent) -> None:
    with Session(engine) as other:
        CommitOutbox(other, sent.append).publish("orders", "other")
        outbox.publish("orders", "mine")
        session.commit()
        assert sent.data == [b'"mine"']


def test_failing_delivery_is_logged(
    engine: Engine, session: Session, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    def deliver(message: Message) -> None:
        if message.channel == "bad":
            raise ConnectionError("redis is away")
        sent.append(message)

    outbox = CommitOutbox(session, deliver)
    session.add(Order(id=1))
    outbox.publish("bad", 1)
    outbox.publish("good", 2)
    with caplog.at_level(logging.ERROR, "gateway.program.commits"):
        session.commit()
    assert sent.data == [b"2"]
    [record] = caplog.records
    assert "to bad" in record.getMessage()
    assert record.exc_info is not None
    with Session(engine) as other:
        assert other.scalars(select(Order.id)).all() == [1]


def test_forgotten_session_is_collected(engine: Engine, sent: Sent) -> None:
    session = Session(engine)
    session.add(Order(id=1))
    session.flush()
    CommitOutbox(session, sent.append).publish("orders", 1)
    seen = weakref.ref(session)
    del session
    gc.collect()
    assert seen() is None
    assert sent == []


def test_scoped_session(engine: Engine, sent: Sent) -> None:
    registry = scoped_session(sessionmaker(engine))
    CommitOutbox(registry, sent.append).publish("orders", 1)
    registry.commit()
    assert sent.data == [b"1"]
    registry.remove()


def test_nothing_else_is_a_session(sent: Sent) -> None:
    nothing: Any = {}
    with pytest.raises(TypeError, match="a SQLAlchemy Session or AsyncSession is needed, not dict"):
        CommitOutbox(nothing, sent.append)


async def test_async_session(async_engine: AsyncEngine, sent: Sent) -> None:
    async with AsyncSession(async_engine) as session:
        outbox = CommitOutbox(session, sent.append)
        outbox.publish("orders", 1)
        session.add(Order(id=1))
        await session.commit()
        assert sent.data == [b"1"]
        outbox.publish("orders", "dropped")
        await session.rollback()
        CommitOutbox(session, sent.append).publish("orders", 2)
        async with session.begin_nested():
            outbox.publish("orders", 3)
        with suppress(RuntimeError):
            async with session.begin_nested():
                outbox.publish("orders", "dropped")
                raise RuntimeError
        assert sent.data == [b"1"]
        await session.commit()
        async with session.begin():
            outbox.publish("orders", 4)
        with suppress(RuntimeError):
            async with session.begin():
                outbox.publish("orders", "dropped")
                raise RuntimeError
        outbox.publish("orders", "dropped by close")
    assert sent.data == [b"1", b"2", b"3", b"4"]


async def test_async_scoped_session(async_engine: AsyncEngine, sent: Sent) -> None:
    registry = async_scoped_session(async_sessionmaker(async_engine), scopefunc=lambda: 1)
    CommitOutbox(registry, sent.append).publish("orders", 1)
    await registry.commit()
    assert sent.data == [b"1"]
    await registry.remove()
