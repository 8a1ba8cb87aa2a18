"""Helm, and types that configurations are held against: of the Go module beside this file, built by tests/run."""

import subprocess
from pathlib import Path

BUILT = Path(__file__).parent / "kubernetes/bin"


def tool(name: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``helm`` or ``check``, with `given` as its input."""
    path = BUILT / name
    assert path.exists(), f"{name} is not built: bash tests/run --prepare"
    command = [str(path), *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=100, check=False)
