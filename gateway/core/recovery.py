"""Recovery, as pure functions: given a position and a stream, what was missed?

Source: Centrifuge protocol, "History and recovery".
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec import Struct

from gateway.brokers.base import Continued
from gateway.core.tags import TagsFilter
from gateway.errors import Disconnect, DisconnectCode
from gateway.messages import Position, Publication


class Recovery(Struct, frozen=True):
    """What a subscriber gets, and the ``position`` at which it stands after that."""

    recovered: bool
    publications: list[Publication]
    position: Position
    replayed: bool = False
    """The publications are all that is kept, for one who has no use for a part."""


def resume(since: Position | None, top: Position) -> tuple[Position | None, Position]:
    """Both as plain positions: ``since`` under the epoch of ``top``, if its stream has all that was seen up to there.

    It has that if it was seen under a former epoch, and before that ended: what was published later under it is lost.
    """
    if not isinstance(top, Continued):
        return since, top
    now = Position(top.offset, top.epoch)
    # those that came after it ended no earlier, for offsets go on
    ended = {each.epoch: each.offset for each in top.former}
    if since is not None and since.offset <= ended.get(since.epoch, -1):
        since = Position(since.offset, now.epoch)
    return since, now


def recover_stream(since: Position, stream: Sequence[Publication], top: Position, most: int) -> Recovery:
    """All that was published after ``since``, or nothing, as when it is more than ``most`` bytes of data.

    ``stream`` holds the stored publications after ``since.offset``, ascending, perhaps cut off by a limit. An
    empty epoch in ``since`` fits any: offset 0 then asks for everything that is still retained.
    """
    if since.epoch and since.epoch != top.epoch:
        return Recovery(False, [], top)
    if stream:
        # counted, for one that this release cannot read is left out
        whole = stream[-1].offset == top.offset and len(stream) == top.offset - since.offset
        whole = whole and sum(len(each.data) for each in stream) <= most
    else:
        whole = since.offset == top.offset
    return Recovery(whole, list(stream) if whole else [], top)


def recover_cache(
    since: Position, stream: Sequence[Publication], top: Position, tags: TagsFilter | None = None
) -> Recovery:
    """The newest publication alone, unless the client has it: the channel is a cell, not a log.

    ``stream`` holds the newest, of which the first that passes ``tags`` is given.
    """
    if since.offset and since == top:
        return Recovery(True, [], top)
    found = newest(stream, tags)
    if found and stream[0].offset == top.offset:
        return Recovery(True, found, top)
    return Recovery(since == top, [], top)


def newest(stream: Iterable[Publication], tags: TagsFilter | None) -> list[Publication]:
    """The first that passes, of a stream that begins with the newest; if there is one."""
    return list(islice((each for each in stream if tags is None or tags.passes(each.tags)), 1))


def merge(
    found: Recovery,
    live: Sequence[Publication],
    *,
    recovering: bool,
    newest_only: bool = False,
    tags: TagsFilter | None = None,
) -> Recovery:
    """Join what was stored with what arrived ``live`` meanwhile, as far as it passes ``tags``.

    Raises ``Disconnect`` (insufficient state) when a publication is missing between the two.
    """
    if not (live or found.publications):
        return found
    position = found.position
    publications = list(found.publications)
    for publication in sorted(live, key=lambda each: each.offset):
        if publication.epoch != position.epoch or publication.offset > position.offset + 1:
            raise Disconnect(DisconnectCode.INSUFFICIENT_STATE)
        if publication.offset == position.offset + 1:
            position = Position(publication.offset, position.epoch)
            publications.append(publication)
    recovered = found.recovered or (newest_only and bool(publications))
    if not (recovering and recovered):
        publications = []
    if tags is not None:
        publications = [each for each in publications if tags.passes(each.tags)]
    return Recovery(recovered, publications[-1:] if newest_only else publications, position, found.replayed)
