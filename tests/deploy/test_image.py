"""What the image holds: locked releases, and a bill of materials. Its layer is built here without Docker."""

import json
import re
import signal
import subprocess
import sys
import venv
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from gateway.version import __version__
from tests.deploy.balancers import ROOT
from tests.deploy.test_deploy import run

EXTRAS = ["otel", "postgres", "proxy"]
FILES = [ROOT / f"deploy/requirements{each}.txt" for each in ("", "-build", *(f"-{extra}" for extra in EXTRAS))]
LARGEST = 60_000_000
"""Bytes of the layer: nearly a third is bytecode, which saves time at each start."""


def script(name: str) -> Any:
    """A script of deploy/ as a module."""
    loader = SourceFileLoader(name, str(ROOT / "deploy" / name))
    spec = spec_from_loader(name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_locked_releases_have_hashes_and_no_addresses(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.partition("\n\n")[2] or text)
    locked = [entry for entry in entries if not entry.startswith("#")]
    assert locked
    assert all(re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\s*", entry) for entry in locked)


def test_locked_releases_are_those_that_the_project_asks_for() -> None:
    run(sys.executable, "deploy/lock", "--check")


def test_extras_have_nothing_in_two_releases() -> None:
    lock = script("lock")
    first, *others = [lock.read(path.read_text()) for path in FILES if "build" not in path.name]
    for each in others:
        assert not first.keys() & each.keys(), "what the gateway has anyway is left out"
    shared = [{*one.items()} ^ {*two.items()} for one, two in combinations(others, 2)]
    assert all(len(dict(each)) == len(each) for each in shared)


def test_what_is_asked_for_and_not_locked_is_told() -> None:
    lock = script("lock")
    locked = {"fastapi": "0.9"}
    assert lock.problems(["fastapi>=1000"], locked) == ["fastapi>=1000 is asked for, and there is 0.9"]
    assert lock.problems(["not-there"], locked) == ["not-there is asked for, and there is none"]
    assert lock.problems(["not-there; sys_platform == 'win32'"], locked) == []


def test_another_release_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = script("lock")
    releases = iter(["1", *["2"] * 100])
    monkeypatch.setattr(lock, "resolve", lambda *_: [("one", next(releases), "sha256=00")])
    with pytest.raises(SystemExit, match="one is 2 in one place and 1 in another"):
        lock.lock(["one"], {})


def test_a_locked_file_has_the_hashes_of_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = script("lock")
    hashes = iter(["sha256=bb", *["sha256=aa"] * 100])
    monkeypatch.setattr(lock, "resolve", lambda *_: [("one", "1", next(hashes))])
    text = lock.written("what", lock.lock(["one"], {}))
    assert text.endswith("one==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n")
    assert lock.read(text) == {"one": "1"}


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile puts into /opt/gateway."""
    left = signal.alarm(900)  # everything is fetched and installed: longer than other tests may take
    directory = tmp_path_factory.mktemp("image")
    built, build = directory / "gateway", directory / "build"
    for each, file in ((built, FILES[0]), (build, FILES[1])):
        venv.create(each, with_pip=True, symlinks=True)
        options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(file))
        pip(each, "install", *options)
    pip(build, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory / "wheels"), str(ROOT))
    (wheel,) = (directory / "wheels").iterdir()
    pip(built, "install", "--no-deps", "--no-index", str(wheel))
    pip(built, "uninstall", "--yes", "pip", "setuptools")
    run(str(built / "bin/python"), "-I", str(ROOT / "deploy/slim"))
    bill = run(str(built / "bin/python"), "-I", str(ROOT / "deploy/sbom"))
    (built / "sbom.cdx.json").write_text(bill)
    signal.alarm(max(1, left))
    return built


def pip(environment: Path, *words: str) -> None:
    command = [str(environment / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def test_it_runs_and_lacks_nothing(layer: Path) -> None:
    assert run(str(layer / "bin/gateway"), "--version").strip() == f"gateway {__version__}"
    run(str(layer / "bin/gateway"), "config", "check", environ={"PATH": ""})
    code = "import gateway.serve.app, gateway.bench.command, gateway.redis.server, uvloop, httptools"
    run(str(layer / "bin/python"), "-I", "-c", code)


def test_it_is_small(layer: Path) -> None:
    size = sum(path.lstat().st_size for path in layer.rglob("*") if not path.is_dir())
    print(f"{size / 2**20:.1f} MiB")
    assert size <= LARGEST


def test_all_that_is_imported_has_its_bytecode(layer: Path) -> None:
    modules = "gateway.serve.app, gateway.bench.command, gateway.redis.server, gateway.doctor"
    code = f"import os, sys, {modules}; files = [getattr(each, '__cached__', None) for each in sys.modules.values()]; "
    code += "print([each for each in files if each and 'site-packages' in each and not os.path.exists(each)])"
    assert run(str(layer / "bin/python"), "-IB", "-c", code).strip() == "[]"


def test_an_extension_module_keeps_what_is_loaded() -> None:
    slim = script("slim")
    elf = Path(msgspec._core.__file__).read_bytes()
    less = slim.loaded(elf)
    assert less[64:] == elf[64 : len(less)]
    assert less[40:48] == bytes(8), "there is no table of sections"
    assert slim.loaded(less) == less
    assert slim.loaded(b"!<arch>") == b"!<arch>"


def test_the_bill_of_materials_names_all_that_is_there(layer: Path) -> None:
    bill = json.loads((layer / "sbom.cdx.json").read_text())
    locked = script("lock").read(FILES[0].read_text())
    assert {each["name"]: each["version"] for each in bill["components"]} == locked
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/wsgateway@{__version__}"
    edges = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    (fastapi,) = (ref for ref in edges if ref.startswith("pkg:pypi/fastapi@"))
    assert fastapi in edges[f"pkg:pypi/wsgateway@{__version__}"]
    assert f"pkg:pypi/starlette@{locked['starlette']}" in edges[fastapi]
    assert set().union(*edges.values()) <= edges.keys()
    assert all(each.get("licenses") for each in bill["components"])


def test_the_bill_of_materials_is_cyclonedx(layer: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    text = (layer / "sbom.cdx.json").read_text()
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"bomFormat"', '"format"')) is not None


def test_two_bills_are_the_same(layer: Path) -> None:
    assert run(str(layer / "bin/python"), "-I", str(ROOT / "deploy/sbom")) == (layer / "sbom.cdx.json").read_text()


def test_where_the_gateway_is_not_there_is_no_bill(monkeypatch: pytest.MonkeyPatch) -> None:
    sbom = script("sbom")
    monkeypatch.setattr(sbom, "distributions", list)
    with pytest.raises(SystemExit, match="wsgateway is not installed here"):
        sbom.bill()
