"""Sections of the settings as they are asked with every client."""

import pytest

from gateway.config.settings import ChannelOptions, ClientSettings
from gateway.config.settings.section import Section, plain


@pytest.mark.parametrize("section", [ClientSettings(), ChannelOptions(history_size=7, history_ttl=60)])
def test_what_is_plain_says_what_the_model_says(section: Section) -> None:
    view = plain(section)
    for name in type(section).model_fields:
        assert getattr(view, name) == getattr(section, name)
    for name in {each for each in dir(section) if not each.startswith("_")} - {*dir(Section)}:
        assert hasattr(view, name), "a property, say, which a plain view would lack"
    assert view.model_dump() == section.model_dump()
    assert not hasattr(type(view), "__getattr__")


def test_it_says_what_options_decide_and_can_be_changed_for_one() -> None:
    view = plain(ChannelOptions(history_size=7, history_ttl=60))
    assert view.keeps_history
    assert view.is_stream
    assert not view.is_map
    other = view.model_copy(update={"history_size": 0})
    assert not other.keeps_history
    assert view.keeps_history
