"""The names of the package that programs are written with."""

import ast
from pathlib import Path

import pytest

import gateway


@pytest.mark.parametrize("name", gateway.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(gateway, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(gateway.__file__).read_text())
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names}
    assert imported - {"TYPE_CHECKING", "Any", "import_module"} == set(gateway.__all__)


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = gateway.Nothing
