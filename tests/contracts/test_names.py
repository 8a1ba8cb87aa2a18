"""Names for what is generated."""

import pytest

from gateway.contracts.names import Names, camel, pascal


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chat", "chat"),
        ("chat typing", "chatTyping"),
        ("admin/close-room", "adminCloseRoom"),
        ("HTTPError", "hTTPError"),
        ("2fa_codes", "faCodes"),
        ("a2", "a2"),
        ("···", ""),
    ],
)
def test_functions_are_named_in_camel_case(text: str, name: str) -> None:
    assert camel(text) == name


def test_types_begin_with_a_capital() -> None:
    assert [pascal(each) for each in ("ChatMessage-Input", "Page_int_", "7up")] == ["ChatMessageInput", "PageInt", "Up"]


def test_each_name_is_given_once() -> None:
    names = Names(["taken"])
    given = [names.take(*each) for each in [("taken", "other"), ("taken", "other"), ("", "delete"), ("", "delete")]]
    assert given == ["other", "other2", "delete2", "delete3"]
