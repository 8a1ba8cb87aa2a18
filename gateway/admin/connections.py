"""Connections of all nodes: a page of them, one with all that is known of it, and its end."""

import msgspec
from msgspec import Struct, structs

from gateway.admin.finding import find_clients, read_wanted
from gateway.admin.messages import ConnectionShown, ConnectionsRequest, ConnectionsResult
from gateway.core.node import Node
from gateway.messages import pack, unpacker
from gateway.session import Session

CONNECTIONS = "admin.connections"
"""The question."""

ANSWER_BYTES = 60_000
"""What a node tells in one message at most: it passes by the connection that carries the publications."""

LONGEST = 128
"""Characters of a user's id, or of another text of strangers, in a list."""


class Search(Struct, array_like=True):
    """What a node is asked: its next connections behind an id."""

    user: str
    channel: str
    address: str
    limit: int
    after: str


class Row(Struct, array_like=True):
    """One connection, of which the asker knows the node."""

    client: str
    user: str
    address: str
    protocol: str
    transport: str
    state: str
    since: float
    subscriptions: int
    queued: int
    round_trip: float | None


class Page(Struct, array_like=True):
    """Connections in order. ``last`` is the id up to which that is all; empty if there are no more."""

    rows: list[Row]
    last: str = ""


_decode_search = msgspec.json.Decoder(Search).decode
_decode_page = unpacker(Page).decode


# — the node that asks —


async def connections(node: Node, request: ConnectionsRequest) -> ConnectionsResult:
    read_wanted(request.address)  # what is wrong with it is told here
    search = Search(request.user, request.channel, request.address, request.limit, request.cursor)
    question = msgspec.json.encode(search).decode()
    told = await node.cluster.ask(CONNECTIONS, question, request.node, _decode_page)
    names = {info.uid: info.name for info in node.cluster.nodes()}
    pages: dict[str, Page] = told.answers
    rows = sorted(((row, uid) for uid, page in pages.items() for row in page.rows), key=lambda each: each[0].client)
    end = min((page.last for page in pages.values() if page.last), default="")
    known = [each for each in rows if not end or each[0].client <= end]  # of what comes then, some may lack
    shown = [shown_of(row, uid, names.get(uid, "")) for row, uid in known[: request.limit]]
    cursor = shown[-1].client if len(known) > len(shown) else end
    return ConnectionsResult(shown, cursor, told.missing)


def shown_of(row: Row, uid: str, name: str) -> ConnectionShown:
    return ConnectionShown(node=uid, node_name=name, **structs.asdict(row))


# — the node that is asked —


async def tell_connections(node: Node, argument: str) -> bytes:
    search = _decode_search(argument)
    found = await find_clients(
        node.hub,
        user=search.user,
        channel=search.channel,
        wanted=read_wanted(search.address),
        after=search.after,
        most=search.limit + 1,
    )
    page = Page([], found[search.limit - 1] if len(found) > search.limit else "")
    size = 0
    for client in found[: search.limit]:
        session = node.hub.connections.get(client)
        if not isinstance(session, Session):
            continue  # it has gone meanwhile
        row = row_of(session)
        size += len(pack(row))
        if size > ANSWER_BYTES:
            page.last = page.rows[-1].client
            break
        page.rows.append(row)
    return pack(page)


def row_of(session: Session, longest: int = LONGEST) -> Row:
    return Row(
        session.client,
        _cut(session.user, longest),
        _cut(str(session.address), longest),
        session.wire.protocol.name,
        session.transport.name,
        session.state.name.lower(),
        session.since,
        len(session.subscriptions),
        session.transport.waiting(),
        session.round_trip,
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
