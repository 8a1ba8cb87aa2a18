"""The kinds of handlers, and how each is written."""

from gateway.program.routes.signatures import Event

_DECIDES = "    async def {name}({{params}}user: User = Depends(current_user)) -> None: ..."

CONNECT = Event(
    "on_connect",
    "    @gateway.on_connect\n    async def connect(user: User = Depends(current_user)) -> Credentials: ...",
    payload=True,
)
DISCONNECT = Event(
    "on_disconnect",
    "    @gateway.on_disconnect\n    async def disconnect(client: Client, code: int, reason: str) -> None: ...",
)
REFRESH = Event(
    "on_refresh",
    "    @gateway.on_refresh\n    async def refresh(user: User = Depends(current_user)) -> Credentials: ...",
)
RPC = Event(
    "rpc",
    '    @gateway.rpc("rooms")\n    async def rooms(search: Search, db: Session = Depends(get_db)) -> list[Room]: ...',
    payload=True,
)
SUBSCRIBE = Event(
    "on_subscribe",
    "    @channel.on_subscribe\n" + _DECIDES.format(name="join"),
    payload=True,
)
SUB_REFRESH = Event(
    "on_refresh",
    "    @channel.on_refresh\n    async def renew({params}token: str = Depends(gateway.token)) -> Grant: ...",
)
PUBLISH = Event(
    "on_publish",
    "    @channel.on_publish\n    async def say({params}message: ChatMessage, client: Client) -> ChatMessage: ...",
    payload=True,
)


REMOVE = Event(
    "on_remove",
    "    @channel.on_remove\n    async def take_away({params}client: Client) -> None: ...",
)


def named(name: str) -> Event:
    """What clients publish by this name."""
    return Event(
        f'event("{name}")',
        f'    @channel.event("{name}")\n'
        "    async def say({params}message: ChatMessage, client: Client) -> ChatMessage: ...",
        payload=True,
    )


GUARD = Event("dependencies", "    router = ChannelRouter(dependencies=[Depends(current_user)])")
PRESENCE = Event("on_presence", "    @channel.on_presence\n" + _DECIDES.format(name="who_is_here"))
HISTORY = Event("on_history", "    @channel.on_history\n" + _DECIDES.format(name="read_back"))
UNSUBSCRIBE = Event(
    "on_unsubscribe",
    "    @channel.on_unsubscribe\n    async def leave({params}client: Client) -> None: ...",
)
CACHE_EMPTY = Event(
    "on_cache_empty",
    "    @channel.on_cache_empty\n    async def fill({params}db: Session = Depends(get_db)) -> State: ...",
)
OCCUPIED = Event(
    "on_occupied",
    "    @channel.on_occupied\n    async def occupied({params}db: Session = Depends(get_db)) -> None: ...",
    client=False,
)
VACATED = Event(
    "on_vacated",
    "    @channel.on_vacated\n    async def vacated({params}db: Session = Depends(get_db)) -> None: ...",
    client=False,
)
LIVE = Event(
    "live",
    "    @channel.live\n    async def ticks({params}) -> AsyncIterator[Tick]:\n        yield Tick(...)",
    client=False,
    generator=True,
)
PUSHER_APP = Event(
    "pusher.app",
    "    @gateway.pusher.app\n    async def app(key: str, db: Session = Depends(get_db)) -> PusherApp | None: ...",
    client=False,
)
PUSHER_USER = Event(
    "pusher.user",
    "    @gateway.pusher.user\n    async def user(user: User = Depends(current_user)) -> PusherUser | None: ...",
)
