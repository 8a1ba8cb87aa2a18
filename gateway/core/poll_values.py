"""What a backend has for a key that is tracked, and what of it is told to whom.

Source: Centrifuge protocol, "Shared poll", versions and delivery.
"""

from typing import Literal, Protocol

from msgspec import Struct, field

from gateway.core.audience import Connection
from gateway.core.losses import Loser
from gateway.core.patches import Patches, patched, whole
from gateway.messages import Payload, Publication
from gateway.protocols.base import Wire

Form = Literal["plain", "whole", "patch"]
"""As it is; the same for those who have negotiated delta; or what has changed."""


class Value(Struct):
    """What there is for a key; no data is no news. ``previous`` is what it had before, if the backend says so."""

    key: str
    data: Payload | None = None
    version: int = 0
    removed: bool = False
    previous: Payload | None = None
    binary: bool = False


class Watcher(Loser, Protocol):
    """A subscription that tracks keys. What it loses its position by is another epoch."""

    @property
    def connection(self) -> Connection: ...

    @property
    def delta(self) -> bool:
        """Has negotiated patches."""


class Watch(Struct, gc=False):
    """How far somebody is with a key. Who is ``ready`` has been given a value, which patches may be made of."""

    version: int
    expire_at: int
    ready: bool = False


class Key(Struct):
    """A key that somebody tracks, and what it has."""

    name: str
    version: int = 0
    digest: int | None = None
    """The hash of the data that this version has."""
    data: Payload | None = None
    """The data itself, where it is kept."""
    binary: bool = False
    again: bool = False
    """Whether somebody has to be told it though it is not new."""
    published: bool = False
    """Whether the server API has told it since the last cycle."""
    watches: dict[Watcher, Watch] = field(default_factory=dict)

    def take(self, version: int, value: Value, data: Payload, *, keep: bool) -> Payload | None:
        """Take over a value. Answers what the version before had, if that is known for certain."""
        base = self.data
        if value.previous is not None and hash(value.previous) == self.digest:
            base = value.previous  # byte for byte what has been told: on anything else a patch would be garbage
        digest = hash(data)
        if version == self.version and digest != self.digest:
            for watch in self.watches.values():  # other bytes of one version: nobody knows which of them who has
                watch.ready = False
        if version >= self.version:
            self.version, self.digest, self.binary = version, digest, value.binary
            self.data = data if keep else None
        # a backend that is behind what was published is asked again, or who has just come would stay behind with it
        self.again = version < self.version
        return base

    def newer_than(self, version: int) -> Publication | None:
        """What is kept, if that is newer."""
        if self.data is None or version >= self.version:
            return None
        return Publication(self.data, key=self.name, version=self.version, binary=self.binary)


class Forms:
    """A publication in the forms in which it is told; each is made once, and encoded once for each wire."""

    def __init__(
        self, channel: str, publication: Publication, patches: Patches, before: int = 0, base: Payload | None = None
    ) -> None:
        """``base`` is what the key had in the version ``before``, if that is known."""
        self.publication = publication
        self._channel = channel
        self._patches = patches
        self._before = before
        self._base = base
        self._made: dict[Form, Publication] = {}
        self._encoded: dict[tuple[Wire, Form], bytes] = {}

    def encoded(self, watcher: Watcher, watch: Watch) -> bytes:
        """As a watcher is to get it. Raises ``Disconnect`` (inappropriate protocol) if it cannot."""
        form: Form = "plain"
        if watcher.delta:
            patch = watch.ready and watch.version == self._before and self._base is not None
            form = "patch" if patch else "whole"
        wire = watcher.connection.wire
        message = self._encoded.get((wire, form))
        if message is None:
            message = self._encoded[wire, form] = wire.protocol.encode_push(self._channel, self._shown(form))
        return message

    def _shown(self, form: Form) -> Publication:
        made = self._made.get(form)
        if made is None:
            made = self._made[form] = self._make(form)
        return made

    def _make(self, form: Form) -> Publication:
        if form == "plain":
            return self.publication
        if form == "patch" and self._base is not None:
            patch = self._patches.between(self._base, self.publication.data)
            if patch is not None:
                return patched(self.publication, patch)
        return whole(self.publication)
