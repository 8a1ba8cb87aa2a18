"""Filters by tags."""

from typing import Any

import pytest
from msgspec import convert

from gateway.core import tags
from gateway.core.tags import DEEPEST, MOST_BYTES, MOST_NODES, TagsFilters, number
from gateway.errors import Error, ErrorCode
from gateway.messages import FilterNode


def node(**fields: Any) -> FilterNode:
    return convert(fields, FilterNode)


def leaf(cmp: str, *values: str, key: str = "px") -> dict[str, Any]:
    lists = cmp in ("in", "nin")
    return {"key": key, "cmp": cmp} | ({"vals": [*values]} if lists else {"val": values[0]} if values else {})


PASSES: dict[str, tuple[dict[str, Any], list[str], list[str | None]]] = {
    "eq": (leaf("eq", "1"), ["1"], ["1.0", "", None]),
    "neq": (leaf("neq", "1"), ["2"], ["1"]),
    "in": (leaf("in", "a", "b"), ["a", "b"], ["c", None]),
    "in, with the empty one": (leaf("in", "a", ""), ["a", ""], ["c"]),
    "nin": (leaf("nin", "a", "b"), ["c", ""], ["a", "b"]),
    "ex": (leaf("ex"), ["a", ""], [None]),
    "sw": (leaf("sw", "ab"), ["ab", "abc"], ["cab", "a", None]),
    "ew": (leaf("ew", "ab"), ["ab", "cab"], ["abc", None]),
    "ct": (leaf("ct", "ab"), ["ab", "cabc"], ["a b", None]),
    "gt": (leaf("gt", "10.5"), ["10.51", "11", "1000"], ["10.5", "10.50", "9", "x", "", None]),
    "gte": (leaf("gte", "10.5"), ["10.5", "10.500", "11"], ["10.4999", "1e9", None]),
    "lt": (leaf("lt", "0.3"), ["0.1", "-5", "0.29999999999999999999"], ["0.3", "0.30", "nan", None]),
    "lte": (leaf("lte", "0.3"), ["0.3", "-0"], ["0.30000000000000000001", "inf", None]),
    "a limit that is no number": (leaf("gt", "x"), [], ["1", "x", None]),
    "and": ({"op": "and", "nodes": [leaf("gt", "1"), leaf("lt", "3")]}, ["2"], ["1", "3", None]),
    "or": ({"op": "or", "nodes": [leaf("eq", "1"), leaf("nex")]}, ["1"], ["2"]),
    "not": ({"op": "not", "nodes": [leaf("ex")]}, [], ["1"]),
}


@pytest.mark.parametrize(("fields", "yes", "no"), PASSES.values(), ids=PASSES)
def test_comparisons(fields: dict[str, Any], yes: list[str], no: list[str | None]) -> None:
    tags = TagsFilters().find(node(**fields))
    assert [tags.passes({"px": each, "other": "1"}) for each in yes] == [True] * len(yes)
    assert [tags.passes({"other": "1"} if each is None else {"px": each}) for each in no] == [False] * len(no)


def test_without_tags() -> None:
    filters = TagsFilters()
    assert filters.find(node(**leaf("nex"))).passes(None)
    assert filters.find(node(**leaf("neq", "1"))).passes({})
    assert not filters.find(node(**leaf("ex"))).passes(None)


BAD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no comparison": {"key": "a", "val": "1"},
    "an unknown comparison": leaf("like", "1"),
    "an unknown op": {"op": "xor", "nodes": [leaf("ex")]},
    "no key": leaf("eq", "1", key=""),
    "no value": leaf("eq"),
    "values for one": {"key": "a", "cmp": "eq", "vals": ["1"]},
    "a value too many": {"key": "a", "cmp": "eq", "val": "1", "vals": ["1"]},
    "no values": {"key": "a", "cmp": "in"},
    "one value for several": {"key": "a", "cmp": "in", "val": "1"},
    "a value for none": leaf("ex", "1"),
    "values for none": {"key": "a", "cmp": "nex", "vals": ["1"]},
    "and of nothing": {"op": "and"},
    "or of nothing": {"op": "or", "nodes": []},
    "not of nothing": {"op": "not"},
    "not of two": {"op": "not", "nodes": [leaf("ex"), leaf("ex")]},
    "a bad one within": {"op": "and", "nodes": [leaf("ex"), leaf("eq")]},
    "too many": {"op": "and", "nodes": [leaf("ex")] * MOST_NODES},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
def test_what_is_no_filter(fields: dict[str, Any]) -> None:
    filters = TagsFilters()
    with pytest.raises(Error) as caught:
        filters.find(node(**fields))
    assert caught.value.code == ErrorCode.BAD_REQUEST
    assert filters.size == 0


def test_levels() -> None:
    def deep(levels: int) -> FilterNode:
        return node(**leaf("ex")) if levels == 1 else FilterNode(op="not", nodes=[deep(levels - 1)])

    TagsFilters().find(deep(DEEPEST))
    for levels in (DEEPEST + 1, 900):
        with pytest.raises(Error):
            TagsFilters().find(deep(levels))


def test_the_same_words_are_one_filter_as_long_as_somebody_has_it() -> None:
    filters = TagsFilters()
    one = filters.find(node(**leaf("in", "a", "b")))
    assert filters.find(convert({"vals": ["a", "b"], "cmp": "in", "key": "px"}, FilterNode)) is one
    other = filters.find(node(**leaf("in", "b", "a")))
    assert other is not one
    before = filters.size
    del other
    assert 0 < filters.size < before
    del one
    assert filters.size == 0


def test_all_of_them_are_bounded() -> None:
    filters = TagsFilters()
    kept = [filters.find(node(**leaf("eq", letter * (MOST_BYTES // 4)))) for letter in "abc"]
    with pytest.raises(Error) as caught:
        filters.find(node(**leaf("eq", "d" * (MOST_BYTES // 4))))
    assert caught.value.code == ErrorCode.LIMIT_EXCEEDED
    del kept[0]
    filters.find(node(**leaf("eq", "d" * (MOST_BYTES // 4))))


def test_numbers() -> None:
    assert [number(each) for each in ("1e3", "", ".", "+", "0x1", "١", "1_0", " 1", "1" * 201)] == [None] * 9
    assert number("+.5") == number("0.50")
    kept = tags._number.cache_info().currsize
    assert number("x" * 60_000) is None
    assert tags._number.cache_info().currsize == kept, "nothing long is kept"
