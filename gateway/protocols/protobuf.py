"""Protocol Buffers for our own structs: a table of field numbers in, two functions out.

The functions are made once, as source, as dataclasses make theirs. Without a loop over fields they are as fast as
google's runtime in C, whose messages would have to be filled, and read, field by field. A field at its zero is not
written; one that is not known, or comes with another wire type, is skipped.

Source: Protocol Buffers, "Encoding".
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import repeat, takewhile
from typing import Any

from msgspec import Raw, Struct
from msgspec.structs import replace

from gateway.messages import NO_PAYLOAD, Payload, revealed

DEEPEST = 100
"""Messages of one kind within each other, or groups: as many as google's runtimes allow."""

LARGEST_OFFSET = 2**53
"""As `messages.Offset` says."""

VARINT, I64, LEN, START_GROUP, END_GROUP, I32 = range(6)

LONGEST, SHORT = 10, 5
"""Bytes of a number at most, and of a tag or a length."""

_SMALL = [bytes((each,)) for each in range(128)]


class Malformed(ValueError):  # noqa: N818  it says what is read, not what went wrong
    """What is read is no message of the kind."""


UNREADABLE = Malformed, UnicodeDecodeError, IndexError
"""How reading fails."""


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1."""
    if number < 128:
        return _SMALL[number]
    if number < 1 << 14:  # the length of most messages
        return bytes((number & 127 | 128, number >> 7))
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def delimited(message: bytes) -> bytes:
    """A message behind its length."""
    size = len(message)
    return (_SMALL[size] if size < 128 else varint(size)) + message


def read_varint(data: bytes, at: int, most: int = LONGEST) -> tuple[int, int]:
    """The number that begins there, of ``most`` bytes, and where it ends. Raises one of `UNREADABLE`."""
    first = data[at]
    if first > 127 and (second := data[at + 1]) < 128:  # the length of most messages
        return first & 127 | second << 7, at + 2
    number = 0
    for shift in range(0, 7 * most, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >> 64:
                raise Malformed("a number has more than 64 bits")
            return number, at
    raise Malformed("a number does not end")


ENDLESS: Iterator[object] = repeat(None)
"""The budget of who may say as much as fits: one of its items goes with each field, and one with a message's end."""


def skip(data: bytes, at: int, tag: int, budget: Iterator[object] = ENDLESS) -> int:
    """Where what follows ``tag`` ends; it may be beyond the end. Raises one of `UNREADABLE`."""
    groups: list[int] = []
    for _ in budget:
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Malformed("there is no such field number")
        if kind == VARINT:
            _, at = read_varint(data, at)
        elif kind == LEN:
            size, at = read_varint(data, at, SHORT)
            at += size
        elif kind in (I32, I64):
            at += 4 if kind == I32 else 8
        elif kind == START_GROUP and len(groups) < DEEPEST:
            groups.append(number)
        elif kind != END_GROUP or not groups or groups.pop() != number:
            raise Malformed("a group does not end, or there is no such wire type")
        if not groups:
            return at
        tag, at = read_varint(data, at, SHORT)
    raise Malformed("too many fields")


class Field(Struct, frozen=True):
    """How a field is written and read, as source.

    ``value`` in it is what the struct has, or the wire; ``{name}`` is a variable for what has been read, and part of
    the names by which ``of`` is known.
    """

    number: int
    kind: int
    zero: str = "0"
    write: str = "value"
    read: str = "value"
    keep: str = "{name} = {read}"
    """What becomes of what is read."""
    each: str = ""
    """Of what there is a field each, where there may be many."""
    when: str = ""
    """What must be true of ``message`` for the field to be written."""
    of: "Message | None" = None
    """The message that it holds."""

    @property
    def tag(self) -> int:
        return self.number << 3 | self.kind


def text(number: int, *, when: str = "") -> Field:
    return Field(number, LEN, "''", "value.encode()", "data[at:stop].decode()", when=when)


def payload(number: int) -> Field:
    return Field(number, LEN, "None", read="Payload(data[at:stop])")


def info(number: int) -> Field:
    """A payload that may be `messages.opaque`."""
    return Field(number, LEN, "None", "revealed(value)", "Payload(data[at:stop])")


def raw(number: int) -> Field:
    """What a request has of a payload."""
    return Field(number, LEN, "NO_PAYLOAD", "bytes(value)", "Raw(data[at:stop])")


def boolean(number: int) -> Field:
    return Field(number, VARINT, "False", "1", "value != 0")


def uint32(number: int) -> Field:
    return Field(number, VARINT, read="value & 0xFFFFFFFF")


def uint64(number: int) -> Field:
    return Field(number, VARINT)


def offset(number: int) -> Field:
    """A uint64 that is as exact in JSON and in Redis scripts."""
    return Field(number, VARINT, read="exact(value)")


def int32(number: int) -> Field:
    return Field(number, VARINT, write="value & MASK", read="signed(value & 0xFFFFFFFF, 32)")


def int64(number: int) -> Field:
    return Field(number, VARINT, write="value & MASK", read="signed(value, 64)")


def sint64(number: int) -> Field:
    return Field(number, VARINT, write="(value << 1 ^ value >> 63) & MASK", read="value >> 1 ^ -(value & 1)")


def message(number: int, of: "Message", zero: str = "None") -> Field:
    """Another message. If it comes again, what it holds is added."""
    return Field(number, LEN, zero, "write{name}(value)", "read{name}(data, at, stop, {name}, 0, budget)", of=of)


def texts(number: int) -> Field:
    """Any number of strings."""
    return _many(text(number))


def messages(number: int, of: "Message | None" = None) -> Field:
    """Any number of messages; of the kind that they are in, if none is named."""
    if of is None:
        return _many(Field(number, LEN, write="write(value)", read="read(data, at, stop, None, depth + 1, budget)"))
    return _many(
        Field(number, LEN, write="write{name}(value)", read="read{name}(data, at, stop, None, 0, budget)", of=of)
    )


def _many(field: Field) -> Field:
    return replace(field, zero="[]", keep="{name}.append({read})", each="value")


def mapping(number: int, of: "Message | None" = None) -> Field:
    """A map from strings to messages, or to strings."""
    # an entry without value has an empty one
    entry = Message(_Entry, key=text(1), value=message(2, of, "read_value(data, 0, 0)") if of else text(2))
    keep = "entry = {read}; {name}[entry.key] = entry.value"
    write, read = "write{name}(Entry(*value))", "read{name}(data, at, stop, None, 0, budget)"
    return Field(number, LEN, "{}", write, read, keep, "value.items()", of=entry)


class _Entry(Struct):
    """Of what a map is made on the wire."""

    key: str = ""
    value: Any = None


class Message:
    """How a struct stands on the wire: ``Message(PublishRequest, channel=text(1), data=raw(2))``."""

    def __init__(self, struct: type[Struct], **fields: Field) -> None:
        self.struct = struct
        self.fields = fields

    @cached_property
    def write(self) -> Callable[[Any], bytes]:
        """What a value looks like, without its length. The function is made when it is first asked for."""
        made: Callable[[Any], bytes] = self._made("write", _writing(self.fields))
        return made

    @cached_property
    def read(self) -> Callable[..., Any]:
        """What stands in ``data`` from ``at`` to ``end``, added to ``before`` if there is one. Raises `UNREADABLE`.

        ``read(data, at, end, before=None, depth=0, budget=ENDLESS)``; a budget that ends is for those not let in yet.
        """
        made: Callable[..., Any] = self._made("read", _reading(self.struct, self.fields))
        return made

    def decode(self, data: bytes) -> Any:
        """A whole message. Raises `UNREADABLE`."""
        return self.read(data, 0, len(data))

    def _made(self, what: str, source: Iterator[str]) -> Callable[..., Any]:
        known: dict[str, Any] = {**_KNOWN, "Struct": self.struct}
        known |= {f"{what}_{name}": getattr(field.of, what) for name, field in self.fields.items() if field.of}
        code = compile("\n".join(source), f"<protobuf of {self.struct.__name__}>", "exec")
        exec(code, known)  # noqa: S102  no word of it is input
        made: Callable[..., Any] = known[what]
        return made


def _writing(fields: dict[str, Field]) -> Iterator[str]:
    yield "def write(message):"
    yield "    out = []"
    for name, field in fields.items():
        condition = f"{field.when} and " if field.when else ""
        yield f"    if {condition}(value := message.{name}):"  # a struct is never false
        indent = " " * 8
        if field.each:
            yield f"{indent}for value in {field.each}:"
            indent += "    "
        if field.write != "value":
            yield f"{indent}value = {field.write.format(name=f'_{name}')}"
        if field.kind == LEN:
            yield f"{indent}size = len(value)"
            yield f"{indent}out += {varint(field.tag)!r}, SMALL[size] if size < 128 else varint(size), value"
        else:
            yield f"{indent}out += {varint(field.tag)!r}, SMALL[value] if value < 128 else varint(value)"
    yield "    return b''.join(out)"


def _reading(struct: type[Struct], fields: dict[str, Field]) -> Iterator[str]:
    yield "def read(data, at, end, before=None, depth=0, budget=ENDLESS):"
    yield f"    if depth > {DEEPEST}: raise Malformed('too deep')"
    yield "    if before is None:" + ("" if fields else " pass")
    yield from (f"        _{name} = {field.zero}" for name, field in fields.items())
    yield "    else:" + ("" if fields else " pass")
    yield from (f"        _{name} = before.{name}" for name in fields)
    yield "    for _ in budget:"
    yield "        if at >= end: break"
    yield "        tag = data[at]"
    yield "        at += 1"
    yield f"        if tag > 127: tag, at = read_varint(data, at - 1, {SHORT})"
    branch = "if"
    for name, field in fields.items():
        yield f"        {branch} tag == {field.tag}:"
        for line in _READ_BYTES if field.kind == LEN else _READ_NUMBER:
            read = field.read.format(name=f"_{name}")
            yield " " * 12 + line.format(keep=field.keep.format(name=f"_{name}", read=read))
        branch = "elif"
    yield "        else: at = skip(data, at, tag, budget)" if fields else "        at = skip(data, at, tag, budget)"
    yield "    if at != end: raise Malformed('cut off, or too many fields')"
    # by place as far as that goes, for by name it takes twice as long
    placed = list(takewhile(fields.__contains__, struct.__struct_fields__))
    named = [f"{name}=_{name}" for name in fields if name not in placed]
    yield f"    return Struct({', '.join([*(f'_{name}' for name in placed), *named])})"


_READ_NUMBER = (
    "value = data[at]",
    "at += 1",
    "if value > 127: value, at = read_varint(data, at - 1)",
    "{keep}",
)
_READ_BYTES = (
    "size = data[at]",
    "at += 1",
    f"if size > 127: size, at = read_varint(data, at - 1, {SHORT})",
    "stop = at + size",  # if that is too far, so is where the message ends
    "{keep}",
    "at = stop",
)


def _signed(number: int, bits: int) -> int:
    return number - (number >> bits - 1 << bits)


def _exact(number: int) -> int:
    if number > LARGEST_OFFSET:
        raise Malformed("there is no such offset")
    return number


_KNOWN = {
    "NO_PAYLOAD": NO_PAYLOAD,
    "Raw": Raw,
    "Payload": Payload,
    "revealed": revealed,
    "Entry": _Entry,
    "Malformed": Malformed,
    "SMALL": _SMALL,
    "MASK": 2**64 - 1,
    "varint": varint,
    "read_varint": read_varint,
    "skip": skip,
    "ENDLESS": ENDLESS,
    "signed": _signed,
    "exact": _exact,
}
"""What the functions that are made refer to."""
