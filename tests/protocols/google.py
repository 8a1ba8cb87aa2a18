"""What google's runtime makes of ``centrifuge.proto``: another codec for the same bytes."""

import tempfile
from collections.abc import Container, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from hypothesis import strategies as st

import gateway.protocols
from gateway.messages import revealed
from gateway.protocols.protobuf import Message, read_varint

HERE = Path(gateway.protocols.__file__).parent

_NAMES = {"Envelope": "Command", "Position": "StreamPosition"}
"""Of structs that are called otherwise in the protocol."""

_NUMBERS = {
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**53),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
}
"""Offsets go as far as JSON has them, and no other 64-bit number is unsigned."""


@cache
def _described() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "set")
        assert protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={out}", "centrifuge.proto"]) == 0
        return out.read_bytes()


def pool(spoken: Mapping[str, Container[str]] | None = None) -> DescriptorPool:
    """All messages; of those that are named here only these fields."""
    [file] = FileDescriptorSet.FromString(_described()).file
    for kind in file.message_type:
        for field in [*kind.field]:
            if spoken and field.name not in spoken.get(kind.name, (field.name,)):
                kind.field.remove(field)
    found = DescriptorPool()  # not the usual one, where centrifuge-python has names of its own
    found.Add(file)
    return found


ALL = pool()


def google(name: str, of: DescriptorPool = ALL) -> Any:
    """The class of a message."""
    return GetMessageClass(of.FindMessageTypeByName(f"gateway.centrifuge.{name}"))


def messages(frame: bytes) -> Iterator[bytes]:
    """What stands behind each length."""
    at = 0
    while at < len(frame):
        size, at = read_varint(frame, at)
        assert at + size <= len(frame)
        yield frame[at : at + size]
        at += size


def google_of(table: Message) -> Any:
    name = table.struct.__name__
    if name == "ConnectResult" and table.fields["data"].number == 3:
        return google("Connect")
    return google(_NAMES.get(name, name))


def some(kind: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Messages of google's with any fields."""
    fields = {each.name: _field(each, depth) for each in kind.DESCRIPTOR.fields if depth < 3 or not each.message_type}
    return st.fixed_dictionaries({}, optional=fields).map(lambda found: kind(**found))


def _field(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return st.dictionaries(st.text(max_size=5), _one(value, depth), max_size=3)
    one = _one(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _one(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return some(GetMessageClass(field.message_type), depth + 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(max_size=200)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=200)
    return st.booleans() if field.type == FieldDescriptor.TYPE_BOOL else _NUMBERS[field.type]


def plain(table: Message, value: Any, *, written: bool = False, maps: bool = True) -> dict[str, Any]:
    """The fields that the table has, those at their zero left out, of a struct of ours or a message of google's.

    ``written``: only those of ours that are to be written; ``maps``: with those that are maps.
    """
    ours = isinstance(value, table.struct)
    found: dict[str, Any] = {}
    for name, field in table.fields.items():
        one, of = getattr(value, name), table if field.read.startswith("read(") else field.of
        if field.each == "value.items()":
            of = of.fields["value"].of if of else None
            one = {key: plain(of, each, written=written, maps=maps) if of else each for key, each in one.items()}
        elif field.each:
            one = [plain(of, each, written=written, maps=maps) if of else each for each in one]
        elif of:
            there = one is not None if ours else value.HasField(name)
            one = plain(of, one, written=written, maps=maps) if there else None
        elif not isinstance(one, str | int):
            one = revealed(bytes(one or b"")) if written and "revealed" in field.write else bytes(one or b"")
        if (maps or field.each != "value.items()") and (not (written and field.when) or value.offset == 1):
            found[name] = one
    return {name: one for name, one in found.items() if one or (isinstance(one, dict) and not table.fields[name].each)}
