"""Fossil deltas: what has to be known of the one payload to make the next of it.

Source: Centrifuge protocol, "Fossil delta format"; the public description of the format by the Fossil project.

A patch is made of what both have in common at the front and at the back, and, between, of what stands in both in
blocks. That part is looked at only as far as it can be in bounded time, for patches are made on the event loop; what
has not been looked at goes as it is.
"""

import sys
from array import array
from collections.abc import Iterator

LARGEST = 64 * 1024
"""Bytes of a payload of which patches are made: its checksum alone takes some 0.2 ms."""

BLOCK = 8
"""Bytes that the two must have in common between the changes, at least: to copy them takes nearly as many."""

BLOCKS = 2048
"""Blocks of the source at most: those of larger payloads are larger."""

MISSES = 4096
"""Places at which no block of the source begins; after that no more are searched: it is a few milliseconds at most."""

_COPY = 12
"""Misses that a copy takes the time of."""

_NEAR = 64
"""Bytes behind the last copy, in both, in which the next one is looked for first."""

_COMPARED = 256
"""Bytes compared at once, in C."""

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_MOST = 2**32

_Copy = tuple[int, int, int]
"""Where it begins and ends in the target, and where in the source."""


class FossilError(ValueError):
    """What is no patch, or is none for this source."""


def create(source: bytes, target: bytes) -> bytes:
    """The patch that makes ``target`` of ``source``. If the target is UTF-8, so is the patch: it may go as text."""
    written = [number(len(target)), b"\n"]
    end, ascii_only = 0, target.isascii()
    for start, stop, at in _copies(source, target):
        if not ascii_only:
            start, stop, at = _whole(target, start, stop, at)
        size = b"%b@%b," % (number(stop - start), number(at))
        if stop - start <= len(size):
            continue  # to say it takes no more
        if start > end:
            written.append(b"%b:%b" % (number(start - end), target[end:start]))
        written.append(size)
        end = stop
    if end < len(target):
        written.append(b"%b:%b" % (number(len(target) - end), target[end:]))
    written.append(b"%b;" % number(checksum(target)))
    return b"".join(written)


def apply(source: bytes, patch: bytes) -> bytes:
    """The target. Raises ``FossilError``."""
    size, at = _read(patch, 0)
    if patch[at : at + 1] != b"\n":
        raise FossilError("no size")
    at += 1
    parts: list[bytes] = []
    while at < len(patch):
        count, at = _read(patch, at)
        command, at = patch[at : at + 1], at + 1
        if command == b"@":
            start, at = _read(patch, at)
            if patch[at : at + 1] != b"," or start + count > len(source):
                raise FossilError("a copy of what the source does not have")
            parts.append(source[start : start + count])
            at += 1
        elif command == b":":
            parts.append(patch[at : at + count])
            at += count
        elif command == b";":
            target = b"".join(parts)
            if len(target) != size or at != len(patch):
                raise FossilError("another size than was said")
            if checksum(target) != count:
                raise FossilError("another checksum than was said")
            return target
        else:
            raise FossilError("an unknown command")
    raise FossilError("no end")


def number(value: int) -> bytes:
    """A number as patches have it: base 64, the most significant digit first."""
    if value < 64:
        return _DIGITS[value : value + 1]
    digits = bytearray()
    while value:
        digits.append(_DIGITS[value & 63])
        value >>= 6
    digits.reverse()
    return bytes(digits)


def checksum(data: bytes) -> int:
    """The sum of its 32-bit words, of which the last is filled up with zeros."""
    words = array("I")
    words.frombytes(data + bytes(-len(data) % 4))
    if sys.byteorder == "little":
        words.byteswap()
    return sum(words) % _MOST


def _read(patch: bytes, at: int) -> tuple[int, int]:
    """The number that stands there, and where it ends."""
    value, begin = 0, at
    while at < len(patch) and (digit := _VALUES.get(patch[at])) is not None:
        value = value * 64 + digit
        at += 1
        if value >= _MOST:
            raise FossilError("too large a number")
    if at == begin:
        raise FossilError("no number")
    return value, at


def _copies(source: bytes, target: bytes) -> Iterator[_Copy]:
    """What the target has of the source, in its order."""
    most = min(len(source), len(target))
    head = _common(source, target, 0, 0, most)
    tail = _common_back(source, target, len(source), len(target), most - head)
    if head:
        yield 0, head, 0
    end, source_end = len(target) - tail, len(source) - tail
    if min(end - head, source_end - head) >= BLOCK:
        yield from _blocks(source, target, head, source_end, end)
    if tail:
        yield end, len(target), source_end


def _blocks(source: bytes, target: bytes, begin: int, source_end: int, end: int) -> Iterator[_Copy]:
    """Copies between the common ends."""
    places: dict[bytes, int] = {}
    done, source_done = begin, begin
    missed = 0
    while missed < MISSES:
        position, at = _nearby(source, target, done, end, source_done, source_end)
        missed += position - done
        if at < 0:
            places = places or _places(source, begin, source_end)
            position, at = _anywhere(target, places, done, min(end, done + MISSES - missed))
            missed += position - done
        if at < 0:
            return
        block = min(BLOCK, end - position)
        back = _common_back(source, target, at, position, min(at - begin, position - done))
        most = min(source_end - at, end - position)
        size = block + _common(source, target, at + block, position + block, most - block)
        yield position - back, position + size, at - back
        done, source_done, missed = position + size, at + size, missed + _COPY


def _nearby(source: bytes, target: bytes, done: int, end: int, source_done: int, source_end: int) -> tuple[int, int]:
    """Where the target goes on as the source does soon after the last copy: mostly some value is another one.

    Of blocks that are there many times, as the rows of a table have them, this one goes furthest.
    """
    source_end = min(source_done + _NEAR, source_end)
    last = min(done + _NEAR, end - BLOCK + 1)
    for position in range(done, last):
        at = source.find(target[position : position + BLOCK], source_done, source_end)
        if at >= 0:
            return position, at
    return max(done, last), -1


def _places(source: bytes, begin: int, end: int) -> dict[bytes, int]:
    """Where its blocks begin, the first of several that are equal."""
    block = max(BLOCK, (end - begin) // BLOCKS)
    return {source[at : at + block]: at for at in range(end - block, begin - 1, -block)}


def _anywhere(target: bytes, places: dict[bytes, int], done: int, end: int) -> tuple[int, int]:
    """Where the target has a block of the source next."""
    find, block = places.get, len(next(iter(places)))
    for position in range(done, end - block + 1):
        if (at := find(target[position : position + block])) is not None:
            return position, at
    return end, -1


def _common(source: bytes, target: bytes, at: int, to: int, most: int) -> int:
    """How many bytes are the same from there on, at most."""
    for known in range(0, most, _COMPARED):
        one = source[at + known : at + min(known + _COMPARED, most)]
        other = target[to + known : to + min(known + _COMPARED, most)]
        if one != other:
            return known + _zeros(int.from_bytes(one, "little") ^ int.from_bytes(other, "little"))
    return most


def _common_back(source: bytes, target: bytes, at: int, to: int, most: int) -> int:
    """How many bytes are the same before there, at most."""
    for known in range(0, most, _COMPARED):
        one = source[at - min(known + _COMPARED, most) : at - known]
        other = target[to - min(known + _COMPARED, most) : to - known]
        if one != other:
            return known + _zeros(int.from_bytes(one, "big") ^ int.from_bytes(other, "big"))
    return most


def _zeros(difference: int) -> int:
    """How many bytes of it are zero before the lowest that is not."""
    return ((difference & -difference).bit_length() - 1) // 8


def _whole(target: bytes, start: int, stop: int, at: int) -> _Copy:
    """The same copy without the parts of characters (UTF-8) at its ends."""
    while start < stop and target[start] & 0xC0 == 0x80:
        start, at = start + 1, at + 1
    while stop > start and stop < len(target) and target[stop] & 0xC0 == 0x80:
        stop -= 1
    return start, stop, at
