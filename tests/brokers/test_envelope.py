"""Messages between nodes, of this release and of others."""

import logging

import pytest

from gateway.brokers import envelope
from gateway.messages import ClientInfo, Join, Leave, Payload, Publication, pack

INFO = ClientInfo("u", "c", conn_info=Payload(b"{}"))
PUBLICATION = Publication(Payload(b":\xff"), info=INFO, tags={"a": "b"}, time=5)


def test_publication_with_and_without_offset() -> None:
    reader = envelope.Reader()
    live = reader.read(b"1p12:epoch:" + pack(PUBLICATION))
    assert isinstance(live, Publication)
    assert (live.offset, live.epoch, live.data, live.time) == (12, "epoch", PUBLICATION.data, 5)
    assert type(live.data) is Payload
    assert reader.read(envelope.WITHOUT_OFFSET + pack(PUBLICATION)) == PUBLICATION
    assert reader.skipped.count == 0


def test_stored_publication_has_no_time_and_no_epoch() -> None:
    stored = envelope.Reader().stored(pack(PUBLICATION), 3)
    assert stored is not None
    assert (stored.offset, stored.epoch, stored.time, stored.data) == (3, "", 0, PUBLICATION.data)


def test_join_and_leave() -> None:
    reader = envelope.Reader()
    assert reader.read(envelope.JOIN + pack(INFO)) == Join(INFO)
    assert reader.read(envelope.LEAVE + pack(INFO)) == Leave(INFO)


def test_fields_of_a_newer_release_are_skipped() -> None:
    reader = envelope.Reader()
    assert reader.read(envelope.JOIN + pack({"user": "u", "client": "c", "mood": "good"})) == Join(ClientInfo("u", "c"))
    assert reader.skipped.count == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"1",
        b"2p0::" + pack(PUBLICATION),
        b"1x" + pack(INFO),
        b"1p",
        b"1p1:e",
        b"1px:e:" + pack(PUBLICATION),
        b"1p1:\xff:" + pack(PUBLICATION),
        b"1p1:e:" + pack(PUBLICATION)[:-1],
        b"1p1:e:" + pack(INFO),
        b"1j" + pack("text"),
        b"1l\xc1",
    ],
)
def test_what_it_does_not_understand_is_counted_and_ignored(message: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reader = envelope.Reader()
    with caplog.at_level(logging.WARNING):
        assert reader.read(message) is None
        assert reader.read(message) is None
    assert reader.skipped.count == 2
    assert len(caplog.records) == 1
