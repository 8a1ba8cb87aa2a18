"""What the documentation shows is so: its program runs, its tests pass, its types hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EMBED = Path(__file__).parent.parent / "docs" / "embed.md"


def block(name: str) -> str:
    """The first code block after the file's name stands in the text."""
    found = re.search(rf"`{re.escape(name)}`.*?\n```\w+\n(.*?)```", EMBED.read_text(), re.DOTALL)
    assert found, f"docs/embed.md shows no {name}"
    return found[1]


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    for name in ("chat.py", "test_chat.py"):
        (tmp_path / name).write_text(block(name))
    return tmp_path


def run(directory: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_chat_of_embed_passes_its_own_tests(chat: Path) -> None:
    command = ("pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_chat.py")
    assert "3 passed" in run(chat, *command)


def test_the_chat_of_embed_is_typed(chat: Path) -> None:
    run(chat, "mypy", "--strict", "--no-incremental", "chat.py", "test_chat.py")


def test_the_chat_of_embed_has_typescript(chat: Path) -> None:
    written = run(chat, "gateway", "client", "--typescript", "chat:gateway")
    assert "export function chat(" in written
    assert "interface ChatMessage" in written
