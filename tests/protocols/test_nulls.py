"""Fields that are null are as if they were left out, in every message and for every field of it."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.inspect import RawType, StructType, UnionType, type_info

from gateway import messages
from gateway.errors import Disconnect
from gateway.protocols.centrifuge_json import CentrifugeJson
from gateway.protocols.centrifuge_json_uni import CentrifugeJsonUni
from gateway.protocols.nulls import without_nulls
from gateway.web import api_messages as api
from gateway.web.bodies import reader
from gateway.web.methods import METHODS

COMMANDS = {
    "connect": messages.ConnectRequest,
    "subscribe": messages.SubscribeRequest,
    "unsubscribe": messages.UnsubscribeRequest,
    "publish": messages.PublishRequest,
    "presence": messages.PresenceRequest,
    "presence_stats": messages.PresenceStatsRequest,
    "history": messages.HistoryRequest,
    "ping": messages.PingRequest,
    "send": messages.SendRequest,
    "rpc": messages.RPCRequest,
    "refresh": messages.RefreshRequest,
    "sub_refresh": messages.SubRefreshRequest,
}


def nulls_of(kind: Any) -> dict[str, Any]:
    """A message of which every field is null, but payloads, for which null is a value."""
    found = type_info(kind)
    assert isinstance(found, StructType)

    def is_payload(each: Any) -> bool:
        return isinstance(each, RawType) or (isinstance(each, UnionType) and any(map(is_payload, each.types)))

    return {field.encode_name: None for field in found.fields if not is_payload(field.type)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_of_every_command(name: str) -> None:
    kind = COMMANDS[name]
    frame = json.dumps({"id": 1, name: nulls_of(kind), "publish" if name != "publish" else "rpc": None})
    [command] = CentrifugeJson().decode(frame.encode())
    assert command == messages.Command(1, kind())


@pytest.mark.parametrize("kind", dict.fromkeys([*(method.request for method in METHODS.values()), api.BatchRequest]))
def test_every_field_of_every_request_of_the_server_api(kind: type[Any]) -> None:
    assert reader(kind)(json.dumps(nulls_of(kind)).encode()) == kind()


def test_the_request_of_who_only_listens() -> None:
    [command] = CentrifugeJsonUni().decode(b'{"token":null,"data":{"a":null},"subs":{"a":null,"b":{"offset":null}}}')
    subs = {"a": messages.SubscribeRequest(), "b": messages.SubscribeRequest()}
    assert command.request == messages.ConnectRequest(data=Raw(b'{"a":null}'), subs=subs)


def test_fields_of_fields() -> None:
    body = b"""{"user":"ann","channel":"a","recover_since":{"offset":null,"epoch":"e"},"client":null,
        "override":{"presence":null,"join_leave":{"value":null},"force_recovery":{"value":true}}}"""
    assert reader(api.SubscribeRequest)(body) == api.SubscribeRequest(
        user="ann",
        channel="a",
        recover_since=messages.Position(0, "e"),
        override=api.Override(join_leave=api.Flag(), force_recovery=api.Flag(True)),
    )


def test_payloads_keep_their_bytes() -> None:
    data = b'{"n" :null,  "big":123456789012345678901234567890}'
    read = reader(api.PublishRequest)
    assert bytes(read(b'{"channel":"a","tags":null,"data":%b}' % data).data) == data
    assert bytes(read(b'{"channel":"a","tags":null,"data": null }').data) == b"null"


def test_what_cannot_be_left_out_is_empty() -> None:
    assert reader(api.BroadcastRequest)(b'{"channels":["a",null]}').channels == ["a", ""]
    assert reader(api.PublishRequest)(b'{"tags":{"a":null}}').tags == {"a": ""}
    assert reader(api.BatchRequest)(b'{"commands":[null]}').commands == [{}]


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (b'{"id":null,"subscribe":{"channel":7}}', "Expected `str`, got `int` - at `$.subscribe.channel`"),
        (b'{"id":1,"subscribe":[null]}', "Expected `object | null`, got `array` - at `$.subscribe`"),
        (b'{"id":1,"history":{"since":[null]}}', "Expected `object | null`, got `array` - at `$.history.since`"),
        (b"null", "Expected `object`, got `null`"),
        (b"[null]", "Expected `object`, got `array`"),
    ],
)
def test_anything_else_is_refused_as_it_was(frame: bytes, told: str) -> None:
    with pytest.raises(Disconnect) as refused:
        CentrifugeJson().decode(frame)
    assert refused.value.reason == f"bad request: {told}"


def test_a_message_without_null_is_not_looked_into() -> None:
    data = b'{"id":"x"}'
    assert without_nulls(data, messages.Command) is data
    assert without_nulls(b'{"a":nul', messages.Position) == b'{"a":nul'
    assert without_nulls(b'{"offset":null', messages.Position) == b'{"offset":null'
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(without_nulls(b'{"offset":null', messages.Position), type=messages.Position)


def test_it_is_not_looked_into_deeper_than_messages_are() -> None:
    """Each level is read again for the one above it."""

    def nested(levels: int, node: bytes) -> bytes:
        return b'{"nodes":[' * levels + node + b"]}" * levels

    assert without_nulls(nested(20, b'{"op":null}'), messages.FilterNode) == nested(20, b"{}")
    far = nested(60, b'{"op":null}')
    assert without_nulls(far, messages.FilterNode) == far
