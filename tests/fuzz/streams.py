"""What a client makes of the publications that it is told: patches fit what it has, and offsets follow each other."""

import json
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from gateway.messages import SubscribeRequest
from gateway.protocols import fossil


class _Stream:
    """One subscription's."""

    def __init__(self, request: SubscribeRequest) -> None:
        self.delta = False
        self.filtered = request.tf is not None
        self.offset: int | None = None
        """Where it stands, as far as it knows."""
        self.bases: dict[str, bytes] = {}
        """By key; those of streams have none."""
        self.pages: list[dict[str, Any]] = []
        """Entries of a map that is being loaded."""


class Streams:
    """Those of one session."""

    def __init__(self, *, binary: bool) -> None:
        self._binary = binary
        self._of: dict[str, _Stream] = {}

    def begin(self, channel: str, request: SubscribeRequest, result: dict[str, Any]) -> None:
        """What subscribe or connect has answered, perhaps with a part of a map."""
        stream = self._of.get(channel)
        if stream is None or not (request.cursor or request.phase == 1) or request.recover:
            stream = self._of[channel] = _Stream(request)
        publications = result.get("publications", [])
        if result.get("phase"):
            stream.pages += [*result.get("state", []), *publications]
            return
        stream.delta = result.get("delta", False)
        for each in (*stream.pages, *result.get("state", [])):
            assert not each.get("delta"), f"a patch in the state: {each}"
            self._data(stream, each)
        offsets = [int(each["offset"]) for each in publications if "offset" in each]
        assert offsets == sorted(set(offsets)), f"not in their order: {offsets}"
        for each in publications:
            self._data(stream, each)
        if result.get("positioned") or result.get("recoverable"):
            stream.offset = max([int(result.get("offset", 0)), *offsets])

    def end(self, channels: Iterable[str]) -> None:
        for each in channels:
            self._of.pop(each, None)

    def take(self, channel: str, publication: dict[str, Any]) -> None:
        """A live publication."""
        if (stream := self._of.get(channel)) is None:
            return
        offset, before = int(publication.get("offset", 0)), stream.offset
        if offset:
            newest = channel.startswith("cell:")  # who has nothing yet is told no position
            if before is not None and not newest:
                assert offset == before + 1 or (stream.filtered and offset > before), f"{channel}: {before}, {offset}"
            stream.offset = offset
        self._data(stream, publication)

    def _data(self, stream: _Stream, publication: dict[str, Any]) -> None:
        """Apply a patch; the next goes by what it makes."""
        key, data = publication.get("key", ""), publication.get("data", "")
        if not stream.delta:
            assert not publication.get("delta"), f"a patch that nobody has asked for: {publication}"
            return
        assert isinstance(data, str), f"not in the form that goes with delta: {publication}"
        told = b64decode(data) if self._binary else data.encode()
        if publication.get("removed"):
            stream.bases.pop(key, None)
            return
        if publication.get("delta"):
            assert key in stream.bases, f"a patch of nothing: {publication}"
            told = fossil.apply(stream.bases[key], told)
        if not self._binary:
            json.loads(told)
        stream.bases[key] = told
