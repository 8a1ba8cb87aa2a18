"""Gateways by name, and the commands that take one."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway import Gateway
from gateway.serve import cli
from gateway.serve.loading import LoadError, load_gateway

PROGRAM = """
from gateway import Gateway, Settings

gateway = Gateway(Settings())
number = 5

class Parts:
    live = gateway

@gateway.rpc("rooms")
async def rooms() -> list[str]:
    return []
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules in the working directory, which are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    known = set(sys.modules)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "live.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "wanting.py").write_text("import a_package_that_there_is_not")
    (tmp_path / "empty.py").write_text("")
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.mark.parametrize("target", ["shop.live:gateway", "shop.live:Parts.live"])
def test_a_gateway_is_found(target: str) -> None:
    found = load_gateway(target)
    assert isinstance(found, Gateway)
    assert load_gateway(target) is found
    assert sys.path.count(str(Path.cwd())) == 1


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("shop.live", '"shop.live" names no gateway; write module:name, for example app.main:gateway'),
        (":gateway", '":gateway" names no gateway'),
        ("shop.live:", '"shop.live:" names no gateway'),
        ("nowhere:gateway", "there is no module nowhere in "),
        ("shop.nothing:gateway", "there is no module shop.nothing in "),
        ("nowhere.at.all:gateway", "there is no module nowhere.at.all in "),
        ("wanting:gateway", "wanting cannot be imported: No module named 'a_package_that_there_is_not'"),
        ("broken:gateway", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("shop.live:gatewy", "shop.live has no gatewy; it has gateway"),
        ("shop.live:gateway.here.not", "shop.live has no gateway.here.not; it has gateway"),
        ("shop.live:number", "shop.live has int, not a Gateway, as number; it has gateway"),
        ("empty:gateway", "empty has no gateway; write module:name"),
    ],
)
def test_what_is_wrong_is_said(target: str, text: str) -> None:
    with pytest.raises(LoadError) as refused:
        load_gateway(target)
    assert str(refused.value).startswith(text)


def test_the_document_is_printed() -> None:
    result = run("asyncapi", "shop.live:gateway")
    assert result.exit_code == 0
    assert result.output.startswith('{\n  "asyncapi": "3.0.0",\n')
    assert list(json.loads(result.output)["channels"]) == ["rooms"]


def test_the_document_is_written(tmp_path: Path) -> None:
    assert run("asyncapi", "shop.live:gateway", "-o", "out.json").output == ""
    assert json.loads((tmp_path / "out.json").read_text())["asyncapi"] == "3.0.0"


def test_the_client_is_written(tmp_path: Path) -> None:
    assert run("client", "--typescript", "shop.live:gateway", "-o", "client.ts").exit_code == 0
    written = (tmp_path / "client.ts").read_text()
    assert "export async function rooms(client: SDK.Centrifuge): Promise<string[]> {" in written
    assert run("client", "shop.live:gateway", "--typescript").output == written


def test_the_client_may_be_json() -> None:
    written = run("client", "shop.live:gateway", "--typescript").output
    assert json.loads(run("client", "shop.live:gateway", "--typescript", "--json").output) == {"typescript": written}


def test_the_client_has_a_language() -> None:
    result = run("client", "shop.live:gateway")
    assert result.exit_code == 2
    assert "say in which language" in result.stderr


@pytest.mark.parametrize("command", [["asyncapi"], ["client", "--typescript"]])
def test_commands_tell_what_is_wrong_in_one_line(command: list[str]) -> None:
    result = run(*command, "shop.live:gatewy")
    assert (result.exit_code, result.stderr) == (1, "gateway: shop.live has no gatewy; it has gateway\n")


def test_a_file_that_cannot_be_written_is_named() -> None:
    result = run("asyncapi", "shop.live:gateway", "-o", "no/such/out.json")
    assert (result.exit_code, result.stderr) == (
        1,
        "gateway: no/such/out.json cannot be written: No such file or directory\n",
    )
