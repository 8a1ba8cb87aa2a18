"""Members of presence channels, by what is signed for them."""

from typing import Any

import pytest

from gateway.session.pusher.members import Member, member_of
from gateway.session.pusher.replies import SubscribeRefused

GOOD: list[tuple[str, Member]] = [
    ('{"user_id":"17"}', Member("17")),
    ('{"user_id": 17, "user_info": null}', Member("17")),
    ('{"user_id":17.0,"user_info":{"name": "Noor"}}', Member("17", b'{"name": "Noor"}')),  # type: ignore[arg-type]
    ('{"user_id":9007199254740993}', Member("9007199254740993")),
    ('{"user_id":"%s"}' % ("x" * 128), Member("x" * 128)),
    ('{"user_id":"a b/ü","other":1}', Member("a b/ü")),
]


@pytest.mark.parametrize(("text", "member"), GOOD)
def test_members(text: str, member: Member) -> None:
    assert member_of(text, 2048) == member


BAD: list[tuple[str, Any]] = [
    ("{", 401),
    ("[]", 401),
    ("{}", 401),
    ('{"user_id":""}', 401),
    ('{"user_id":null}', 401),
    ('{"user_id":true}', 401),
    ('{"user_id":{}}', 401),
    ('{"user_id":"%s"}' % ("x" * 129), 401),
    ('{"user_id":"17","user_info":"Noor"}', 401),
    ('{"user_id":"17","user_info":[]}', 401),
    ('{"user_id":"17","user_info":{"name":"%s"}}' % ("x" * 2048), 4301),
    ("[" * 2000, 401),
]


@pytest.mark.parametrize(("text", "status"), BAD)
def test_what_names_none(text: str, status: int) -> None:
    with pytest.raises(SubscribeRefused) as caught:
        member_of(text, 2048)
    assert caught.value.status == status
