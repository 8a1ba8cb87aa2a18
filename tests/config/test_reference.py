"""The page of all settings."""

import re
from pathlib import Path

from gateway.config.reference import reference
from gateway.config.settings import ClientSettings, Namespace, Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "write it anew: gateway config reference > docs/settings.md"


def test_every_setting_is_told_once() -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", reference(), re.DOTALL | re.MULTILINE))
    assert re.findall(r"^\| `(\w+)`", sections["channel.namespaces[]"], re.MULTILINE) == ["name"]
    assert "all of `channel.without_namespace`" in sections["channel.namespaces[]"]
    options = re.findall(r"^\| `(\w+)`", sections["channel.without_namespace"], re.MULTILINE)
    assert {*options, "name", "map", "shared_poll"} == set(Namespace.model_fields)
    assert {"channel.without_namespace.map", "channel.without_namespace.shared_poll"} <= sections.keys()
    told = set(re.findall(r"^\| `(\w+)`", sections["client"], re.MULTILINE))
    told |= {name.split(".")[1] for name in sections if name.startswith("client.")}
    assert told == set(ClientSettings.model_fields)
    assert {name.split(".")[0].removesuffix("[]") for name in sections} == set(Settings.model_fields)


def test_defaults_are_written_as_in_a_file() -> None:
    page = reference()
    assert '| `ping_interval` | `"25s"` |' in page
    assert '| `drain_time` | `"2m"` |' in page
    assert "| `channel_position_max_time_lag` | `0` |" in page
    assert "| `enabled` | `true` |" in page
    assert "| `name` | required |" in page
