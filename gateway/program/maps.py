"""A map in the hands of the program."""

from collections.abc import AsyncIterator
from typing import Any, Generic

from gateway.batches import in_turns
from gateway.brokers.base import HistoryFilter
from gateway.channels import Channel
from gateway.core.map_reading import AT_A_TIME, read_changes, read_entries
from gateway.core.node import Node
from gateway.errors import ErrorCode
from gateway.maps.base import KeyMode, MapReceipt, MapStore, MapWrite
from gateway.messages import Position
from gateway.messages import Publication as Stored
from gateway.program.encoding import encode_publication, is_text
from gateway.program.errors import ChannelError, check_publication, check_write
from gateway.program.typed import Publication, T, Types


class MapHandle(Generic[T]):
    """What each key of a map has, to write and to read ::

        board = gateway.map("board:7")
        await board.publish("card:1", Card(text="hello"))
        await board.remove("card:1")
        async for entry in board:
            print(entry.key, entry.data)

    Made by `Gateway.map`. Writes are told to the map's subscribers on all nodes. What a map does not have raises
    `ChannelError`; an absent broker ``BrokerUnavailable``.
    """

    def __init__(self, node: Node, channel: Channel, types: Types) -> None:
        self.name = channel.name
        self._node = node
        self._channel = channel
        self._types = types

    async def publish(
        self,
        key: str,
        data: Any,
        *,
        tags: dict[str, str] | None = None,
        key_mode: KeyMode = "",
        expected: Position | None = None,
        version: int = 0,
        version_epoch: str = "",
        idempotency_key: str = "",
        delta: bool = False,
    ) -> MapReceipt:
        """Set what a key has. Answers where the map stands then, and why nothing was set, if so (``suppressed``).

        ``data`` is as for `Gateway.publish`, and so are ``idempotency_key`` and ``delta``; versions are those of the
        key. With ``key_mode`` only a key is set that is new (``if_new``), or that is there (``if_exists``), and with
        ``expected`` only one that was written last at that position: if it was not, ``current`` is what it has.
        """
        self._node.check_loop()
        publication = encode_publication(data, tags)
        publication.key = self._checked(key)
        check_publication(self._channel, publication)
        write = check_write(
            MapWrite(
                key_mode=key_mode,
                idempotency_key=idempotency_key,
                version=version,
                version_epoch=version_epoch,
                expected=expected,
                delta=delta,
            )
        )
        return await self._node.maps.publish(self._channel, publication, write)

    async def remove(self, key: str, *, expected: Position | None = None, idempotency_key: str = "") -> MapReceipt:
        """Take a key out; one that is not there is ``suppressed`` as ``key_not_found``."""
        self._node.check_loop()
        write = check_write(MapWrite(idempotency_key=idempotency_key, expected=expected))
        return await self._node.maps.remove(self._channel, self._checked(key), write)

    async def get(self, key: str) -> Publication[T] | None:
        """What a key has; None if it is not there."""
        options = self._node.maps.options(self._channel)
        page = await self._store.read_key(self.name, options, self._checked(key))
        return Publication(page.entries[0], self._types) if page.entries else None

    async def entries(self) -> tuple[list[Publication[T]], Position]:
        """All of it, in the order of keys, and the position at which it was so. For a large map, iterate."""
        page = await read_entries(self._here.maps, self._channel, -1)
        return await in_turns(page.entries, AT_A_TIME, self._typed), page.position

    async def __aiter__(self) -> AsyncIterator[Publication[T]]:
        """Each entry, in the order of keys, as it is when it is read."""
        cursor = ""
        while True:
            page = await read_entries(self._here.maps, self._channel, AT_A_TIME, cursor)
            for each in page.entries:
                yield Publication(each, self._types)
            cursor = page.cursor
            if not cursor:
                return

    async def changes(
        self, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> tuple[list[Publication[T]], Position]:
        """The latest changes that it keeps, and where it stands. Raises ``Error`` (112) where some since are lost."""
        which = HistoryFilter(max(limit, -1), since, reverse)
        changes, top = await read_changes(self._here.maps, self._channel, which)
        return await in_turns(changes, AT_A_TIME, self._typed), top

    async def count(self) -> int:
        """How many keys there are."""
        return await self._store.count(self.name)

    async def clear(self) -> None:
        """Forget all of it; its subscribers load it anew."""
        await self._store.clear(self.name)
        await self._node.cluster.notify("map_cleared", self.name)

    @property
    def _here(self) -> Node:
        self._node.check_loop()
        return self._node

    @property
    def _store(self) -> MapStore:
        return self._here.maps.store

    def _typed(self, publication: Stored) -> Publication[T]:
        return Publication(publication, self._types)

    def _checked(self, key: object) -> str:
        longest = self._channel.options.map.max_key_length
        if not isinstance(key, str) or not is_text(key) or not 0 < len(key.encode()) <= longest:
            raise ChannelError(
                ErrorCode.BAD_REQUEST,
                f'a key of "{self.name}" is a text of at most {longest} bytes (map.max_key_length), not {key!r:.100}',
            )
        return key

    def __repr__(self) -> str:
        return f"<MapHandle {self.name!r}>"
