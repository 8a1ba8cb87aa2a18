"""A program that uses all that a contract can hold."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from fastapi import Body, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from gateway import HANDLED, Client, Credentials, Gateway, Grant, Message, Settings
from gateway.program.routes.returns import Handled

gateway = Gateway(
    Settings.model_validate(
        {
            "client": {"token": {"hmac_secret_key": "a-secret-of-sufficient-length-for-hs256"}},
            "http_server": {"port": 9000, "root_path": "/live"},
            "asyncapi": {"version": "1.2.0"},
        }
    )
)
app = FastAPI(title="Shop & <Chat>", lifespan=gateway.lifespan)
app.include_router(gateway.router, prefix="/live")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 0


class Attachment(BaseModel):
    kind: Literal["file"] = "file"
    url: str
    size: Annotated[int, Field(ge=0, description="In bytes.")]


class Drawing(BaseModel):
    kind: Literal["drawing"] = "drawing"
    points: list[tuple[int, int]]
    colors: dict[Color, int] = {}


class ChatMessage(BaseModel):
    """What is said. */ not an end"""

    text: str
    sent_at: Annotated[datetime | None, Field(description="When it was sent,\nby the server's clock.")] = None
    content_type: Annotated[str, Field(alias="content-type")] = "text/plain"
    color: Color = Color.RED
    extras: list[Annotated[Attachment | Drawing, Field(discriminator="kind")]] = []
    replies: "list[ChatMessage]" = []
    meta: dict[str, Any] = {}


class Join(BaseModel):
    nickname: str


class Order(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: UUID
    price: Decimal
    where: Point | None = None
    rest: tuple[int, str] | list[int] | None = None


class Sale(TypedDict, total=False):
    item: str


@dataclass
class Tick:
    at: float
    symbol: str = ""


class Filter(BaseModel):
    search: str = ""
    limit: int = 10


class Room(BaseModel):
    name: str
    people: int


class Promise(BaseModel):
    """Has the name of something of JavaScript."""

    kept: bool


class Hello(BaseModel):
    locale: str = "en"


@gateway.on_connect
async def connect(hello: Hello, client: Client) -> Credentials:
    return Credentials(client.query_params.get("user", hello.locale))


chat = gateway.channel(
    "chat:{room}", history_size=10, presence=True, allow_history_for_subscriber=True, allow_presence_for_subscriber=True
)


@chat.on_subscribe
async def join(room: str, joining: Join) -> Grant:
    """Anybody with a name may come in."""
    return Grant(info={"nickname": joining.nickname})


@chat.on_publish
async def say(room: str, message: ChatMessage) -> ChatMessage:
    """Everybody in the room hears it."""
    return message


orders = gateway.channel("orders:{number:int}", message=Order, history_size=1)


@orders.on_subscribe
def watch(number: int) -> None:
    pass


ticks = gateway.channel("ticks:{symbol}")


@ticks.live
async def tick(symbol: str) -> AsyncIterator[Tick]:
    """Every second."""
    yield Tick(1.0, symbol)


typing = gateway.channel("chat:{room}:typing", allow_publish_for_subscriber=True, message=Sale)
files = gateway.channel("files/{name:path}", presence=True)
anything = gateway.channel("{place}:{thing}", allow_publish_for_client=True)
state = gateway.channel("state", history_size=1, force_recovery_mode="cache")


@state.on_cache_empty
async def fill() -> Tick | None:
    return None


@state.on_publish
async def set_state(tick: Tick, client: Client) -> Message | Handled:
    return Message(tick, exclude=client) if tick.symbol else HANDLED


@state.on_presence
async def look() -> None:
    pass


second = gateway.channel("chat:{room}:{user}")


@gateway.rpc("rooms")
async def rooms(search: Filter | None = None) -> list[Room]:
    """The rooms that there are."""
    return [Room(name=search.search if search else "lobby", people=1)]


@gateway.rpc("chat")
async def rpc_chat(text: Annotated[str, Body()]) -> str | None:
    return text or None


@gateway.rpc("admin/close-room")
async def close_room(promise: Promise) -> None:
    if not promise.kept:
        raise HTTPException(409)


gateway.rpc("delete")(lambda: 1)
