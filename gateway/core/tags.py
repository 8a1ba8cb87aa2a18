"""Filters by tags: which publications of a channel a subscriber wants.

Source: Centrifuge protocol, "Publication filter by tags". Filters that say the same in the same words are one object,
so that they are asked once about each publication, whatever the number of those who have them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from itertools import count
from operator import ge, gt, le, lt
from weakref import ref

from msgspec.json import Encoder

from gateway.errors import Error, ErrorCode
from gateway.messages import FilterNode

DEEPEST = 16
"""Levels of a filter: it is asked level by level, and nobody writes as many."""

MOST_NODES = 128
"""Conditions of a filter, for all of them may have to be looked at for each publication. Lists of values are one."""

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of all filters on a node; what they take once they are ready is a small multiple of it."""

MOST_NEEDED = 16
"""Values of which a filter may need one to be found by them: each takes more memory there than in the filter."""

_LONGEST_NUMBER = 200
"""Characters of a text that is read as a number."""

Tags = Mapping[str, str]
Test = Callable[[Tags], bool]
Needs = tuple[str, frozenset[str]]
"""A tag, and values of which it must have one; a tag that is not there has the empty one."""

NO_TAGS: Tags = {}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_canonical = Encoder(order="sorted").encode


class TagsFilter:
    """A filter, ready to be asked. Two are the same if they are one object."""

    __slots__ = ("__weakref__", "needs", "test")

    def __init__(self, test: Test, needs: Needs | None = None) -> None:
        self.test = test
        self.needs = needs
        """What has to be so for anything to pass, if there is such a thing that can be looked up."""

    def passes(self, tags: Tags | None) -> bool:
        """Whether a publication with these tags is wanted."""
        return self.test(tags or NO_TAGS)


class TagsFilters:
    """The filters of a node, each once. They go with the last subscription that has them."""

    def __init__(self) -> None:
        self._known: dict[bytes, ref[TagsFilter]] = {}
        self.size = 0
        """Bytes of all of them."""

    def find(self, node: FilterNode) -> TagsFilter:
        """The filter that is described. Raises ``Error``: bad request if it is none, limit exceeded for too many."""
        try:
            written = _canonical(node)
        except RecursionError:
            raise _bad("it has too many levels") from None
        known = self._known.get(written)
        found = None if known is None else known()
        if found is None:
            found = TagsFilter(_compile(node, count()), _needs(node))
            if self.size + len(written) > MOST_BYTES:
                raise Error(ErrorCode.LIMIT_EXCEEDED)
            self._known[written] = ref(found, partial(self._forget, written))
            self.size += len(written)
        return found

    def _forget(self, written: bytes, _gone: "ref[TagsFilter]") -> None:
        self.size -= len(written)
        del self._known[written]


def _compile(node: FilterNode, counter: Iterator[int], depth: int = 1) -> Test:
    if depth > DEEPEST or next(counter) >= MOST_NODES:
        raise _bad(f"it has more than {DEEPEST} levels, or more than {MOST_NODES} conditions")
    if not node.op:
        return _leaf(node)
    tests = [_compile(each, counter, depth + 1) for each in node.nodes]
    if node.op == "not" and len(tests) == 1:
        [test] = tests
        return lambda tags: not test(tags)
    if node.op in ("and", "or") and tests:
        return _joined(tests, node.op == "or")
    raise _bad(f"{node.op!r:.20} is no op, or has too few nodes or too many")


def _needs(node: FilterNode) -> Needs | None:
    """The fewest values of one tag without which a filter, which has been found to be one, lets nothing pass."""
    if node.op == "and":
        return min(filter(None, map(_needs, node.nodes)), key=lambda needs: len(needs[1]), default=None)
    if node.op or node.cmp not in ("eq", "in"):
        return None
    values = frozenset(node.vals or (node.val,))
    return (node.key, values) if len(values) <= MOST_NEEDED else None


def _joined(tests: Sequence[Test], decisive: bool) -> Test:
    """One of several conditions that comes out as ``decisive`` decides; a loop, for ``any`` and ``all`` take longer."""

    def test(tags: Tags) -> bool:
        for each in tests:
            if each(tags) is decisive:
                return decisive
        return not decisive

    return test


def _leaf(node: FilterNode) -> Test:
    """What one condition asks; the names below say what is true of a tag that is there, or is not."""
    key, cmp, val = node.key, node.cmp, node.val
    if not key:
        raise _bad("a condition has no key")
    if cmp in _LISTS:
        if val or not node.vals:
            raise _bad(f"{cmp} needs vals, and no val")
        vals, wanted = frozenset(node.vals), cmp == "in"
        return lambda tags: (tags.get(key, "") in vals) is wanted
    if node.vals or bool(val) is (cmp in _EXISTENCE):
        raise _bad(f"{cmp!r:.20} has a value too few, or one too many")
    if cmp in _EXISTENCE:
        there = cmp == "ex"
        return lambda tags: (key in tags) is there
    if cmp == "neq":
        return lambda tags: tags.get(key) != val
    if cmp in _NUMERIC:
        return _numeric(key, _NUMERIC[cmp], number(val))
    if cmp in _TEXTUAL:
        textual = _TEXTUAL[cmp]
        return lambda tags: (tag := tags.get(key)) is not None and textual(tag, val)
    raise _bad(f"{cmp!r:.20} is no comparison")


def _numeric(key: str, compare: Callable[[Decimal, Decimal], bool], limit: Decimal | None) -> Test:
    if limit is None:
        return lambda tags: False

    def test(tags: Tags) -> bool:
        tag = tags.get(key)
        value = None if tag is None else number(tag)
        return value is not None and compare(value, limit)

    return test


def number(text: str) -> Decimal | None:
    """A decimal number, None for any other text: no exponents, no infinities."""
    return _number(text) if len(text) <= _LONGEST_NUMBER else None


@lru_cache(1024)  # of texts that are short
def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


_LISTS = frozenset(("in", "nin"))
_EXISTENCE = frozenset(("ex", "nex"))
_NUMERIC: Mapping[str, Callable[[Decimal, Decimal], bool]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_TEXTUAL: Mapping[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "sw": str.startswith,
    "ew": str.endswith,
    "ct": str.__contains__,
}


def _bad(why: str) -> Error:
    return Error(ErrorCode.BAD_REQUEST, f"bad request: tags filter: {why}")
