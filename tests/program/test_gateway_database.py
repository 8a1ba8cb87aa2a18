"""An idle socket holds no database connection: a thousand sockets, and a pool of five."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import Engine, QueuePool, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from websockets.asyncio.client import ClientConnection, connect

from gateway import Client, Credentials, Gateway, Settings
from tests.serving import Serve, on_plain_uvicorn, on_uvicorn
from tests.waiting import until

SOCKETS = 1000
POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 120, "connect_args": {"timeout": 120}}


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Line(Base):
    __tablename__ = "lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Say(BaseModel):
    text: str


class Pool:
    """Counts connections that are out, as the pool itself tells."""

    def __init__(self, engine: Engine) -> None:
        self.out = self.most = self.times = 0
        self.engine = engine
        event.listen(engine, "checkout", self._out)
        event.listen(engine, "checkin", self._back)

    def _out(self, *_: Any) -> None:
        self.out += 1
        self.times += 1
        self.most = max(self.most, self.out)

    def _back(self, *_: Any) -> None:
        self.out -= 1

    def checked_out(self) -> int:
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout()


def declare_sync(gateway: Gateway, engine: Engine) -> None:
    """As FastAPI's documentation writes it: everything in threads."""

    def get_db() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    DB = Annotated[Session, Depends(get_db)]  # noqa: N806

    @gateway.on_connect
    def on_connect(client: Client, db: DB) -> Credentials | None:
        member = db.get(Member, int(client.query_params["id"]))
        return Credentials(str(member.id), info=member.name) if member else None

    chat = gateway.channel("chat")

    @chat.on_subscribe
    def join(client: Client, db: DB) -> bool:
        return db.scalar(select(Member.name).where(Member.id == int(client.user))) is not None

    @chat.on_publish
    def say(line: Say, db: DB) -> Say:
        db.add(Line(text=line.text))
        db.commit()
        return line


def declare_async(gateway: Gateway, engine: AsyncEngine) -> None:
    async def get_db() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    DB = Annotated[AsyncSession, Depends(get_db)]  # noqa: N806

    @gateway.on_connect
    async def on_connect(client: Client, db: DB) -> Credentials | None:
        member = await db.get(Member, int(client.query_params["id"]))
        return Credentials(str(member.id), info=member.name) if member else None

    chat = gateway.channel("chat")

    @chat.on_subscribe
    async def join(client: Client, db: DB) -> bool:
        return await db.scalar(select(Member.name).where(Member.id == int(client.user))) is not None

    @chat.on_publish
    async def say(line: Say, db: DB) -> Say:
        db.add(Line(text=line.text))
        await db.commit()
        return line


@pytest.fixture
def sync_engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/members.db", poolclass=QueuePool, **POOL)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Member(id=number, name=f"member {number}") for number in range(SOCKETS))
        session.commit()
    yield engine
    engine.dispose()


async def ask(socket: ClientConnection, number: int, kind: str, **body: Any) -> dict[str, Any]:
    await socket.send(json.dumps({"id": number, kind: body}))
    async for frame in socket:
        for line in str(frame).split("\n"):
            reply: dict[str, Any] = json.loads(line)
            if reply.get("id") == number:
                return reply
    raise AssertionError("closed")


async def thousand_sockets(gateway: Gateway, pool: Pool, serve: Serve) -> None:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    few = asyncio.Semaphore(100)  # handshakes at a time: what is tested is how many are open

    async with serve(app, gateway.settings) as port, AsyncExitStack() as stack:

        async def open_one(number: int) -> ClientConnection:
            async with few:
                url = f"ws://127.0.0.1:{port}/connection/websocket?id={number}"
                socket = await stack.enter_async_context(
                    connect(url, compression=None, ping_interval=None, max_queue=None)
                )
                assert "connect" in await ask(socket, 1, "connect")
                assert "subscribe" in await ask(socket, 2, "subscribe", channel="chat")
                return socket

        sockets = await asyncio.gather(*map(open_one, range(SOCKETS)))
        assert gateway.node.hub.subscribers("chat") == SOCKETS
        await until(lambda: pool.out == 0)
        assert pool.checked_out() == 0
        assert pool.most <= 5
        assert pool.times >= 2 * SOCKETS
        # all at once, without anybody holding back: the pool alone sets the pace
        replies = await asyncio.gather(
            *(ask(each, 3, "publish", channel="chat", data={"text": "hi"}) for each in sockets[:100])
        )
        assert [each for each in replies if "publish" not in each] == []
        await until(lambda: pool.out == 0)
        assert pool.checked_out() == 0
        assert pool.most <= 5
        assert len(gateway.node.hub.connections) == SOCKETS


async def test_sessions_in_threads(sync_engine: Engine) -> None:
    gateway, pool = Gateway(Settings(client={"ping_interval": 0})), Pool(sync_engine)
    declare_sync(gateway, sync_engine)
    await thousand_sockets(gateway, pool, on_uvicorn)


async def test_async_sessions(sync_engine: Engine) -> None:
    engine = create_async_engine(str(sync_engine.url).replace("sqlite:", "sqlite+aiosqlite:"), **POOL)
    gateway, pool = Gateway(Settings(client={"ping_interval": 0})), Pool(engine.sync_engine)
    declare_async(gateway, engine)
    await thousand_sockets(gateway, pool, on_plain_uvicorn)
    await engine.dispose()


def test_the_pool_counts() -> None:
    """Or the others would prove nothing."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    pool = Pool(engine)
    with engine.connect(), engine.connect():
        assert (pool.out, pool.most, pool.checked_out()) == (2, 2, 2)
    assert (pool.out, pool.most, pool.times, pool.checked_out()) == (0, 2, 2, 0)
    engine.dispose()
