"""What the documentation names is there: settings, modules, public names; and what is public is named."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import gateway
import gateway.testing
from gateway.config.centrifugo import adopt
from gateway.config.fields import fields
from gateway.config.sources import load
from gateway.errors import SettingsError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SETTINGS = frozenset(fields())
SECTIONS = {setting[: dot.start()] for setting in SETTINGS for dot in re.finditer(r"\.", setting)}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page
def test_settings_files_that_are_shown_can_be_read(page: Path, tmp_path: Path) -> None:
    for shown in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        secret = tmp_path / "secret"
        secret.write_text("x" * 32)
        file = tmp_path / "gateway.toml"
        file.write_text(re.sub(r'_file = "[^"]*"', f'_file = "{secret}"', shown))
        load(file, environ={})


@every_page
def test_settings_that_are_named_exist(page: Path) -> None:
    """Or are Centrifugo's, of which it is known what becomes of them."""
    for name in set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?: = [^`]*)?`", page.read_text())):
        section = name.partition(".")[0]
        if section in SECTIONS and not name.endswith(".py") and not _is_attribute(name):
            assert _is_setting(name) or not adopt({name: "x"}, SETTINGS).values.get(name), name


def _is_attribute(name: str) -> bool:
    """Of a client, as in ``client.user``; or of a span, whose names OpenTelemetry gives."""
    owner, _, attribute = name.partition(".")
    return (owner == "client" and hasattr(gateway.Client, attribute)) or name in ("rpc.system", "rpc.method")


def _is_setting(name: str) -> bool:
    plain = name.removesuffix("_file").replace("channel.namespaces.", "channel.without_namespace.")
    return name in SECTIONS or bool({plain, plain.replace("without_namespace", "namespaces")} & SETTINGS)


def test_modules_that_the_architecture_names_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    for name in set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|lua|proto))`", text)):
        assert next((ROOT / "gateway").rglob(name), None) or (ROOT / name).exists(), name


@every_page
def test_names_that_are_imported_exist(page: Path) -> None:
    for module, names in re.findall(r"^\s*from (gateway[\w.]*) import (\([^)]*\)|.+)$", page.read_text(), re.MULTILINE):
        for name in _imported(names):
            assert hasattr(import_module(module), name), f"{module}.{name}"


def _imported(names: str) -> Iterator[str]:
    for each in re.sub(r"#.*", "", names).strip("()").split(","):
        if name := each.partition(" as ")[0].strip():
            yield name


def test_what_is_public_is_named() -> None:
    pages = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"\w+", pages))
    assert set(gateway.__all__) - {"__version__"} <= named
    assert set(gateway.testing.__all__) <= set(re.findall(r"\w+", (DOCS / "testing.md").read_text()))


def test_settings_that_do_not_exist_are_found(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    assert not _is_setting("client.tokne")
    assert _is_setting("http_api.key_file")
    file = tmp_path / "gateway.toml"
    file.write_text("[client]\ntokne = 1\n")
    with pytest.raises(SettingsError):
        load(file, environ={})
