"""What the systems are run with: the compiled limit, the virtualenvs and Node packages of the peers."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Protocol

from gateway import __version__

HERE = Path(__file__).parent
PEERS = HERE / "peers"
MADE = HERE / ".venv"
"""Everything that is installed or compiled for the bench."""


class Missing(Exception):  # noqa: N818  an error is one of a catalogue here
    """Something is not on this machine, or could not be made. The text says what to do."""


class Environment(Protocol):
    """A place to run a system in."""

    def prepare(self) -> None:
        """Install or compile what is not there yet. Raises `Missing`."""

    def command(self, words: Sequence[str]) -> list[str]:
        """The words that start a program of this environment."""
        ...

    def version(self, package: str) -> str:
        """Name and version of one of its packages."""
        ...


def program(name: str, package: str) -> str:
    """The path of a program. Raises `Missing`, naming the package to install."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is missing; install it, for example: apt-get install {package}")
    return path


def make(command: Sequence[str], directory: Path = HERE) -> str:
    """Run a command to its end and give its output. Raises `Missing` with it when the command fails."""
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(command)}\n{done.stdout.strip()}")
    return done.stdout


def fresh(stamp: Path, source: Path) -> bool:
    """Whether the stamp was left by this very source. If not, ``source`` is to be made, then `mark`ed."""
    return stamp.is_file() and stamp.read_text() == _digest(source)


def mark(stamp: Path, source: Path) -> None:
    stamp.write_text(_digest(source))


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


class Here:
    """The Python that runs the bench, in which the gateway is installed."""

    def prepare(self) -> None:
        pass

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, *words]

    def version(self, package: str) -> str:
        if package == "wsgateway":  # what is measured is the checkout, however it was installed
            return f"gateway {__version__}"
        return f"{package} {metadata.version(package)}"


class Virtualenv:
    """A virtualenv with the packages that a requirements file pins."""

    def __init__(self, name: str, requirements: Path) -> None:
        self._directory = MADE / name
        self._requirements = requirements

    def prepare(self) -> None:
        stamp = self._directory / "stamp"
        if fresh(stamp, self._requirements):
            return
        make([sys.executable, "-m", "venv", "--clear", str(self._directory)])
        install = ["-m", "pip", "install", "--quiet", "--requirement", str(self._requirements)]
        make(self.command(install))
        mark(stamp, self._requirements)

    def command(self, words: Sequence[str]) -> list[str]:
        return [str(self._directory / "bin" / "python"), *words]

    def version(self, package: str) -> str:
        code = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
        return f"{package} {make(self.command(['-c', code, package])).strip()}"


class Node:
    """The Node packages of a lock file, beside the peers that import them."""

    def __init__(self, directory: Path = PEERS) -> None:
        self._directory = directory

    def prepare(self) -> None:
        program("node", "nodejs")
        stamp, lock = self._directory / "node_modules" / "stamp", self._directory / "package-lock.json"
        if not fresh(stamp, lock):
            install = [program("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            make(install, self._directory)
            mark(stamp, lock)

    def command(self, words: Sequence[str]) -> list[str]:
        return [program("node", "nodejs"), *words]

    def version(self, package: str) -> str:
        if package == "node":
            return f"Node {make([*self.command(['--version'])]).strip().lstrip('v')}"
        about = json.loads((self._directory / "node_modules" / package / "package.json").read_text())
        return f"{package} {about['version']}"


class Compiled:
    """A C program of one file."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._program = MADE / source.stem

    def prepare(self) -> None:
        gcc = program("gcc", "gcc libc6-dev")
        MADE.mkdir(exist_ok=True)
        stamp = self._program.with_suffix(".stamp")
        if not fresh(stamp, self._source):
            make([gcc, "-O2", "-Wall", "-Wextra", "-o", str(self._program), str(self._source)])
            mark(stamp, self._source)

    def command(self, words: Sequence[str]) -> list[str]:
        return [str(self._program), *words]

    def version(self, package: str) -> str:
        return f"{package} {make([package, '-dumpfullversion']).strip()}"


def machine() -> str:
    """What all this runs on, in a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    redis = make([program("redis-server", "redis-server"), "--version"]).split("v=", 1)[-1].split()[0]
    return f"{model}, Linux {platform.release()}, Python {platform.python_version()}, Redis {redis}"
