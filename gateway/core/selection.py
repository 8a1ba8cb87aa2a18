"""Who wants a publication with these tags, of many who have filters: found, as far as may be, and not asked."""

from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from gateway.core.tags import NO_TAGS, Tags, TagsFilter

_Item = TypeVar("_Item", bound=Hashable)


class Selection(Generic[_Item]):
    """Items with a filter each, or none. A filter that needs one of some values is asked where the tag has one."""

    __slots__ = ("_asked", "_by_filter", "_needing", "_whole")

    def __init__(self) -> None:
        self._whole: dict[_Item, None] = {}
        """Those without filter."""
        self._by_filter: dict[TagsFilter, dict[_Item, None]] = {}
        self._asked: dict[TagsFilter, None] = {}
        """Filters that are asked each time."""
        self._needing: dict[str, dict[str, dict[TagsFilter, None]]] = {}
        """The others, by the tag, and by the values of which they need one."""

    def __bool__(self) -> bool:
        return bool(self._whole or self._by_filter)

    def __iter__(self) -> Iterator[_Item]:
        return chain(self._whole, *self._by_filter.values())

    def add(self, item: _Item, tags_filter: TagsFilter | None) -> None:
        if tags_filter is None:
            self._whole[item] = None
            return
        if tags_filter not in self._by_filter:
            self._by_filter[tags_filter] = {}
            if tags_filter.needs is None:
                self._asked[tags_filter] = None
            else:
                key, values = tags_filter.needs
                needing = self._needing.setdefault(key, {})
                for value in values:
                    needing.setdefault(value, {})[tags_filter] = None
        self._by_filter[tags_filter][item] = None

    def remove(self, item: _Item, tags_filter: TagsFilter | None) -> None:
        if tags_filter is None:
            del self._whole[item]
            return
        del self._by_filter[tags_filter][item]
        if self._by_filter[tags_filter]:
            return
        del self._by_filter[tags_filter]
        if tags_filter.needs is None:
            del self._asked[tags_filter]
            return
        key, values = tags_filter.needs
        needing = self._needing[key]
        for value in values:
            del needing[value][tags_filter]
            if not needing[value]:
                del needing[value]
        if not needing:
            del self._needing[key]

    def select(self, tags: Tags | None) -> list[_Item]:
        """Those who want it; each filter is asked once at most."""
        tags = tags or NO_TAGS
        selected = [*self._whole]
        for tags_filter in self._asked:
            if tags_filter.test(tags):
                selected += self._by_filter[tags_filter]
        for key, needing in self._needing.items():
            for tags_filter in needing.get(tags.get(key, ""), ()):
                if tags_filter.test(tags):
                    selected += self._by_filter[tags_filter]
        return selected
