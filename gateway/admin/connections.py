"""Connections of all nodes: a page of them, one with all that is known of it, and its end."""

import msgspec
from msgspec import Struct, structs

from gateway.admin.finding import find_clients, read_wanted
from gateway.admin.messages import ConnectionShown, ConnectionsRequest, ConnectionsResult
from gateway.core.node import Node
from gateway.core.survey import PAGE_BYTES
from gateway.messages import pack, unpacker
from gateway.session import Session

CONNECTIONS = "admin.connections"
"""The question."""

LONGEST = 128
"""Characters of a user's id, or of another text of strangers, in a list."""


class Search(Struct, array_like=True):
    """What a node is asked: its next connections behind an id."""

    user: str
    channel: str
    address: str
    limit: int
    after: str


class Row(ConnectionShown, array_like=True):
    """One connection, as nodes tell it each other."""


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
    pages: list[Page] = [*told.answers.values()]
    rows = sorted((row for page in pages for row in page.rows), key=lambda row: row.client)
    end = min((page.last for page in pages if page.last), default="")
    known = [row for row in rows if not end or row.client <= end]  # of what comes then, some may lack
    shown = [*map(shown_of, known[: request.limit])]
    cursor = shown[-1].client if len(known) > len(shown) else end
    return ConnectionsResult(shown, cursor, told.missing)


def shown_of(row: Row) -> ConnectionShown:
    return ConnectionShown(**structs.asdict(row))


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
        row = row_of(node, session)
        size += len(pack(row))
        if size > PAGE_BYTES:
            page.last = page.rows[-1].client
            break
        page.rows.append(row)
    return pack(page)


def row_of(node: Node, session: Session, longest: int = LONGEST) -> Row:
    return Row(
        client=session.client,
        node=node.uid,
        node_name=node.name,
        user=_cut(session.user, longest),
        address=_cut(str(session.address), longest),
        protocol=session.wire.protocol.name,
        transport=session.transport.name,
        state=session.state.name.lower(),
        since=session.since,
        subscriptions=len(session.subscriptions),
        queued=session.transport.waiting(),
        round_trip=session.round_trip,
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
