"""What some audiences get in place of a publication: a patch, or all of it in the form that goes with patches.

Somebody who has negotiated delta is in one of two audiences. In that of ``patch`` are those whose latest publication
is the one at their position, so that a patch on that one can be read by all of them; in that of ``full`` those who have
just come, were excluded from one, or have got one without offset since. After a whole one these are among the former.

In a map a patch is on what the same key had before. Those in ``patch`` have loaded all of it. Those in ``full`` have
come back, and may know some keys no more: they stay there, and are sent patches of the keys that all of them have been
given since.
"""

from collections.abc import Callable, Collection, Iterable, Sequence, Set

from msgspec.structs import replace

from gateway.core.audience import Audience, AudienceKey, LocalChannel, Subscriber
from gateway.core.patches import Bases, Patches, patched, whole
from gateway.messages import Payload, Position, Publication

EVERYTHING = Publication(Payload())
"""Stands for what somebody was given who has all that a map has."""

Had = Publication | frozenset[str] | None
"""What somebody was given before: its latest publication; or the keys of a map; or nothing."""

Send = Callable[[str, Publication, Iterable[Audience], Set[Subscriber]], None]
"""Has a channel's publication delivered to audiences, but for those excluded."""

Move = Callable[[LocalChannel, Audience, AudienceKey, Collection[Subscriber]], object]
"""Has members of an audience be in another one from now on."""


class Variants:
    """Delivers to the audiences that differ from the others in what they get."""

    def __init__(self, send: Send, move: Move) -> None:
        self.patches = Patches()
        self._bases = Bases()
        self._known: dict[str, set[str]] = {}
        """By map, keys of which all in ``full`` have what they had last."""
        self._send = send
        self._move = move

    def enter(
        self,
        channel: LocalChannel,
        subscriber: Subscriber,
        key: AudienceKey,
        position: Position | None,
        had: Had,
    ) -> AudienceKey:
        """The audience of somebody who comes in at ``position``, and was given ``had`` before, if anything."""
        channel.deltas = True
        if had is EVERYTHING:
            return replace(key, delta="patch")
        if isinstance(had, frozenset):
            self._known.setdefault(channel.name, set(had)).intersection_update(had)
            return replace(key, delta="full")
        if position is None or had is None or had.offset != position.offset:
            return replace(key, delta="full")
        if channel.name not in self._bases:
            self._bases.keep(channel.name, position, had.data)
        return replace(key, delta="patch")

    def left(self, channel: LocalChannel) -> None:
        """An audience has gone: what patches need is kept as long as somebody gets them."""
        if channel.name in self._known and not any(key.delta == "full" for key in channel.audiences):
            del self._known[channel.name]
        if channel.deltas and not any(key.delta for key in channel.audiences):
            channel.deltas = False
            self._bases.drop(channel.name)

    def deliver(
        self, channel: LocalChannel, publication: Publication, readers: Sequence[Audience], excluded: Set[Subscriber]
    ) -> list[Audience]:
        """Give those what they get who get something else. Answers who gets the publication as it is."""
        full = [each for each in readers if each.key.delta == "full"]
        patch = [each for each in readers if each.key.delta == "patch"]
        known = self._known.get(channel.name) if publication.key else None
        if known is not None and _learn(known, channel, publication, full, excluded):
            patch, full = patch + full, []
        form = self._patched(channel, publication) if patch else None
        if not publication.key and Position(publication.offset, publication.epoch) == channel.position:
            self._bases.keep(channel.name, channel.position, publication.data)  # those sent away now take it along
        if form is not None:
            self._send(channel.name, form, patch, excluded)
        if whole_readers := full if form is not None else full + patch:
            self._send(channel.name, whole(publication), whole_readers, excluded)
        if publication.key:  # what patches are of goes with each, and who has it does not change by it
            return [each for each in readers if not each.key.delta]
        for audience in full + patch:
            self._sort(channel, publication, audience, excluded)
        return [each for each in readers if not each.key.delta]

    def _patched(self, channel: LocalChannel, publication: Publication) -> Publication | None:
        if not (publication.patchable and publication.offset):
            return None
        base = publication.previous if publication.key else self._bases.before(channel.name, publication)
        patch = None if base is None else self.patches.between(base, publication.data)
        return None if patch is None else patched(publication, patch)

    def _sort(
        self, channel: LocalChannel, publication: Publication, audience: Audience, excluded: Set[Subscriber]
    ) -> None:
        """Have everybody be where he belongs after a publication."""
        key = audience.key
        if key.delta == "full" and (not publication.offset or not key.positioned or key.behind is not None):
            return  # it stands nowhere, or goes over old ground by itself and has a whole one when it joins the others
        missed = audience.members.keys() & excluded
        gets = audience.members.keys() - missed if missed else audience.members.keys()
        if key.delta == "full":
            self._move(channel, audience, replace(key, delta="patch"), gets)
        elif not publication.offset:
            self._move(channel, audience, replace(key, delta="full"), gets)
        elif missed:
            behind = key.behind and Position(publication.offset, publication.epoch)
            self._move(channel, audience, replace(key, delta="full", behind=behind), missed)


def _learn(
    known: set[str],
    channel: LocalChannel,
    publication: Publication,
    full: Sequence[Audience],
    excluded: Set[Subscriber],
) -> bool:
    """Note what those all have who are given a change of a map. Answers whether they have what its key had before."""
    key = publication.key
    before = key in known
    if publication.removed or excluded:
        known.discard(key)
    elif len(full) == sum(each.delta == "full" for each in channel.audiences):
        known.add(key)
    return before
