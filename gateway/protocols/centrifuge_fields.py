"""The numbers of the Centrifuge protocol's fields, by the structs of `messages`: one line for each that is spoken.

Source: Centrifuge client protocol v2, "Messages"; ``centrifuge.proto`` beside this has all of them.
"""

from gateway.messages import (
    ClientInfo,
    ConnectRequest,
    ConnectResult,
    FilterNode,
    HistoryRequest,
    HistoryResult,
    Join,
    KeyedItem,
    Leave,
    PingRequest,
    Position,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    PublishResult,
    Refresh,
    RefreshRequest,
    RefreshResult,
    RPCRequest,
    RPCResult,
    SendRequest,
    SubRefreshRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    TrackBatch,
    Unsubscribe,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from gateway.protocols.centrifuge_json import Envelope
from gateway.protocols.protobuf import (
    Message,
    boolean,
    info,
    int32,
    int64,
    mapping,
    message,
    messages,
    offset,
    payload,
    raw,
    text,
    texts,
    uint32,
    uint64,
)

CLIENT_INFO = Message(
    ClientInfo,
    user=text(1),
    client=text(2),
    conn_info=info(3),
    chan_info=info(4),
)
PUBLICATION = Message(
    Publication,
    data=payload(4),
    info=message(5, CLIENT_INFO),
    offset=offset(6),
    tags=mapping(7),
    delta=boolean(8),
    key=text(11),
    removed=boolean(12),
    # a client that subscribed before the stream existed learns its epoch from the first publication
    epoch=text(14, when="message.offset == 1"),
    version=uint64(16),
)

# — requests —

FILTER = Message(FilterNode, op=text(1), key=text(2), cmp=text(3), val=text(4), vals=texts(5), nodes=messages(6))
SUBSCRIBE_REQUEST = Message(
    SubscribeRequest,
    channel=text(1),
    token=text(2),
    recover=boolean(3),
    epoch=text(6),
    offset=offset(7),
    data=raw(8),
    positioned=boolean(9),
    recoverable=boolean(10),
    join_leave=boolean(11),
    delta=text(12),
    tf=message(13, FILTER),
    flag=int64(14),
    type=int32(15),
    phase=int32(16),
    cursor=text(17),
    limit=int32(18),
)
CONNECT_REQUEST = Message(
    ConnectRequest,
    token=text(1),
    data=raw(2),
    subs=mapping(3, SUBSCRIBE_REQUEST),
    name=text(4),
    version=text(5),
    headers=mapping(6),
)
POSITION = Message(Position, offset=offset(1), epoch=text(2))
HISTORY_REQUEST = Message(
    HistoryRequest,
    channel=text(1),
    limit=int32(7),
    since=message(8, POSITION),
    reverse=boolean(9),
)
TRACK_BATCH = Message(
    TrackBatch, signature=text(1), items=messages(2, Message(KeyedItem, key=text(1), version=uint64(2)))
)
SUB_REFRESH_REQUEST = Message(
    SubRefreshRequest,
    channel=text(1),
    token=text(2),
    type=int32(3),
    track=messages(4, TRACK_BATCH),
    untrack=texts(5),
)
COMMAND = Message(
    Envelope,
    id=uint32(1),
    connect=message(4, CONNECT_REQUEST),
    subscribe=message(5, SUBSCRIBE_REQUEST),
    unsubscribe=message(6, Message(UnsubscribeRequest, channel=text(1))),
    publish=message(
        7, Message(PublishRequest, channel=text(1), data=raw(2), type=int32(3), key=text(4), removed=boolean(5))
    ),
    presence=message(8, Message(PresenceRequest, channel=text(1))),
    presence_stats=message(9, Message(PresenceStatsRequest, channel=text(1))),
    history=message(10, HISTORY_REQUEST),
    ping=message(11, Message(PingRequest)),
    send=message(12, Message(SendRequest, data=raw(1))),
    rpc=message(13, Message(RPCRequest, data=raw(1), method=text(2))),
    refresh=message(14, Message(RefreshRequest, token=text(1))),
    sub_refresh=message(15, SUB_REFRESH_REQUEST),
)

# — results, by their numbers in a reply —

SUBSCRIBE_RESULT = Message(
    SubscribeResult,
    expires=boolean(1),
    ttl=uint32(2),
    recoverable=boolean(3),
    epoch=text(6),
    publications=messages(7, PUBLICATION),
    recovered=boolean(8),
    offset=offset(9),
    positioned=boolean(10),
    data=info(11),
    was_recovering=boolean(12),
    delta=boolean(13),
    id=int64(14),
    type=int32(15),
    phase=int32(16),
    cursor=text(17),
    state=messages(18, PUBLICATION),
    publish_debounce=uint32(19),
)
CONNECT_RESULT = Message(
    ConnectResult,
    client=text(1),
    version=text(2),
    expires=boolean(3),
    ttl=uint32(4),
    data=payload(5),
    subs=mapping(6, SUBSCRIBE_RESULT),
    ping=uint32(7),
    pong=boolean(8),
    session=text(9),
    node=text(10),
    time=int64(11),
)
RESULTS: dict[int, Message] = {
    5: CONNECT_RESULT,
    6: SUBSCRIBE_RESULT,
    7: Message(UnsubscribeResult),
    8: Message(PublishResult),
    9: Message(PresenceResult, presence=mapping(1, CLIENT_INFO)),
    10: Message(PresenceStatsResult, num_clients=uint32(1), num_users=uint32(2)),
    11: Message(HistoryResult, publications=messages(1, PUBLICATION), epoch=text(2), offset=offset(3)),
    13: Message(RPCResult, data=payload(1)),
    14: Message(RefreshResult, client=text(1), version=text(2), expires=boolean(3), ttl=uint32(4)),
    15: Message(SubRefreshResult, expires=boolean(1), ttl=uint32(2), items=messages(3, PUBLICATION)),
}

# — pushes, by their numbers in a push —

PUSHES: dict[int, Message] = {
    4: PUBLICATION,
    5: Message(Join, info=message(1, CLIENT_INFO)),
    6: Message(Leave, info=message(1, CLIENT_INFO)),
    7: Message(Unsubscribe, code=uint32(2), reason=text(3)),
    9: Message(
        Subscribe,
        recoverable=boolean(1),
        epoch=text(4),
        offset=offset(5),
        positioned=boolean(6),
        data=info(7),
    ),
    10: Message(
        ConnectResult,  # for those who only listen
        client=text(1),
        version=text(2),
        data=payload(3),
        subs=mapping(4, SUBSCRIBE_RESULT),
        expires=boolean(5),
        ttl=uint32(6),
        ping=uint32(7),
        pong=boolean(8),
        session=text(9),
        node=text(10),
        time=int64(11),
    ),
    12: Message(Refresh, expires=boolean(1), ttl=uint32(2)),
}
