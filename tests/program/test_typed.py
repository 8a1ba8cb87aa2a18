"""What the program reads of its channels: values of the declared types, and bytes."""

import pytest
from pydantic import BaseModel, ValidationError

from gateway import messages
from gateway.messages import Payload
from gateway.program.typed import ClientInfo, Publication, Types, decoding


class Line(BaseModel):
    text: str


LINES = Types(data=decoding(Line), conn_info=decoding(Line), chan_info=decoding(list[Line]))

JSON = Payload(b'{"text": "hi", "more": 1}')


def test_a_publication_is_decoded_into_its_type() -> None:
    message = messages.Publication(JSON, offset=3, epoch="e", tags={"a": "b"})
    publication: Publication[Line] = Publication(message, LINES)
    assert publication.data == Line(text="hi")
    assert publication.data is publication.data, "made once"
    assert publication.raw == JSON
    assert (publication.offset, publication.epoch, publication.tags) == (3, "e", {"a": "b"})
    assert repr(publication) == '<Publication 3 b\'{"text": "hi", "more": 1}\'>'


def test_without_a_type_it_is_what_json_has() -> None:
    publication = Publication(messages.Publication(JSON))
    assert publication.data == {"text": "hi", "more": 1}
    assert (publication.tags, publication.info) == ({}, None)


def test_what_is_not_of_the_type_can_still_be_read_as_bytes() -> None:
    publication = Publication(messages.Publication(Payload(b"5")), LINES)
    with pytest.raises(ValidationError, match="Line"):
        _ = publication.data
    assert publication.raw == b"5"


def test_binary_data_is_no_json() -> None:
    publication = Publication(messages.Publication(Payload(b"\x00"), binary=True), LINES)
    assert (publication.data, publication.binary) == (b"\x00", True)


def test_who_has_published_is_read_by_the_same_types() -> None:
    info = messages.ClientInfo("7", "c", JSON, Payload(b'[{"text": "a"}]'))
    publication = Publication(messages.Publication(JSON, info), LINES)
    assert publication.info is not None
    assert (publication.info.conn_info, publication.info.chan_info) == (Line(text="hi"), [Line(text="a")])
    assert (publication.info.user, publication.info.client) == ("7", "c")
    assert (publication.info.raw_conn_info, publication.info.raw_chan_info) == (JSON, b'[{"text": "a"}]')


def test_nothing_said_of_a_client_is_none() -> None:
    info = ClientInfo(messages.ClientInfo("7", "c"), LINES)
    assert (info.conn_info, info.chan_info, info.raw_conn_info) == (None, None, None)
    assert repr(info) == "<ClientInfo c user='7'>"


def test_info_that_is_no_json_is_its_bytes() -> None:
    """As a token may have it in base64."""
    info = ClientInfo(messages.ClientInfo("7", "c", messages.opaque(b"\x00\xff"), None), LINES)
    assert (info.conn_info, info.raw_conn_info, info.chan_info) == (b"\x00\xff", b"\x00\xff", None)
