"""Who wants a publication: what is found by its tags is what asking each would find."""

from collections.abc import Mapping
from typing import Any

from gateway.core.selection import Selection
from gateway.core.tags import MOST_NEEDED, TagsFilter, TagsFilters
from tests.core.test_tags import leaf, node

EVEN, ODD = leaf("eq", "even", key="kind"), leaf("eq", "odd", key="kind")
MANY = [str(number) for number in range(MOST_NEEDED + 1)]

DESCRIBED: Mapping[str, dict[str, Any] | None] = {
    "everything": None,
    "even": EVEN,
    "odd": ODD,
    "some": leaf("in", "1", "2", "3"),
    "none or 1": leaf("in", "", "1"),
    "many": leaf("in", *MANY),
    "not 1": leaf("neq", "1"),
    "even and some": {"op": "and", "nodes": [leaf("in", "1", "2"), EVEN]},
    "even and above 1": {"op": "and", "nodes": [leaf("gt", "1"), EVEN]},
    "even or 1": {"op": "or", "nodes": [EVEN, leaf("eq", "1")]},
    "not even": {"op": "not", "nodes": [EVEN]},
    "both": {"op": "and", "nodes": [EVEN, ODD]},
}
PUBLISHED: list[dict[str, str] | None] = [
    None,
    {"px": "1"},
    {"kind": "even"},
    *({"px": px, "kind": kind} for px in ("", "1", "2", "x") for kind in ("", "even", "odd")),
]


def described(filters: TagsFilters) -> dict[str, TagsFilter | None]:
    return {name: None if each is None else filters.find(node(**each)) for name, each in DESCRIBED.items()}


def test_finds_whom_asking_each_would_find() -> None:
    selection: Selection[str] = Selection()
    known = described(TagsFilters())
    for name, each in known.items():
        selection.add(name, each)
    assert sorted(selection) == sorted(known)
    for tags in PUBLISHED:
        wanted = [name for name, each in known.items() if each is None or each.passes(tags)]
        assert sorted(selection.select(tags)) == sorted(wanted), tags


def test_nothing_stays_of_those_who_leave() -> None:
    selection: Selection[str] = Selection()
    known = described(TagsFilters())
    for name, each in known.items():
        for item in (name, f"{name} too"):
            selection.add(item, each)
    for name, each in known.items():
        selection.remove(name, each)
    assert sorted(selection.select({"px": "1", "kind": "odd"})) == sorted(
        f"{name} too" for name in ("everything", "odd", "some", "none or 1", "many", "even or 1", "not even")
    )
    for name, each in known.items():
        selection.remove(f"{name} too", each)
    assert not selection
    assert not any(getattr(selection, name) for name in Selection.__slots__)


def test_asks_only_those_filters_that_may_let_it_pass() -> None:
    asked: list[str] = []
    selection: Selection[str] = Selection()
    for name, found in described(TagsFilters()).items():
        if found is not None:

            def test(tags: Any, name: str = name) -> bool:
                asked.append(name)
                return False

            found.test = test
            selection.add(name, found)
            selection.add(f"{name} too", found)
    assert selection.select({"px": "2", "kind": "other"}) == []
    assert sorted(asked) == ["even or 1", "many", "not 1", "not even", "some"]
