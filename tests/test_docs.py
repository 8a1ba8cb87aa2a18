"""What the documentation shows is so: its program runs, its tests pass, its types hold."""

import os
import re
import subprocess
import sys
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session

from gateway import Gateway
from gateway.session.life import LIFE, SUBSCRIPTION_LIFE
from gateway.testing import Kit, Refused
from tests import engines, forked
from tests.integration.processes import program
from tests.node import PACKAGES
from tests.postgres_server import PostgresServer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def block(page: str, name: str) -> str:
    """The first code block after the file's name stands in the text."""
    found = re.search(rf"`{re.escape(name)}`.*?\n```\w+\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found, f"docs/{page} shows no {name}"
    return found[1]


PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), target
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if there.suffix == ".md" else []
        assert not anchor or anchor in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_shown_is_python(page: Path) -> None:
    for shown in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        compile(shown, page.name, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)


def table(life: Mapping[Any, frozenset[Any]]) -> str:
    """A table of states as the page draws it."""
    rows = [(state.name, state.value, ", ".join(each.name for each in life if each in life[state])) for state in life]
    lines = [f"| {name} | {meaning} | {after or '—'} |" for name, meaning, after in rows]
    return "\n".join(["| state | meaning | leads to |", "|---|---|---|", *lines, ""])


@pytest.mark.parametrize("life", [LIFE, SUBSCRIPTION_LIFE])
def test_the_architecture_draws_the_tables_of_states(life: Mapping[Any, frozenset[Any]]) -> None:
    assert f"\n\n{table(life)}\n" in (DOCS / "architecture.md").read_text()


def test_the_house_has_every_room() -> None:
    house = "".join(re.findall(r"^```\n(serve .*?|taps .*?)^```", (DOCS / "architecture.md").read_text(), re.M | re.S))
    named = set(re.findall(r"\w+", "\n".join(line.split("  ")[0] for line in house.splitlines())))
    for wing in ("", "core", "program", "session", "config"):
        rooms = {each.stem for each in (ROOT / "gateway" / wing).iterdir() if each.is_dir() or each.suffix == ".py"}
        assert {each for each in rooms if not each.startswith("_")} - {"core", "program"} <= named, wing


SECRET = {"SECRET": "of the tests alone, thirty-two bytes"}


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    for name in ("chat.py", "test_chat.py"):
        (tmp_path / name).write_text(block("embed.md", name))
    (tmp_path / "test_first.py").write_text(block("testing.md", "test_first.py"))
    return tmp_path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    for name in ("rooms.py", "test_rooms.py", "resume.py"):
        (tmp_path / name).write_text(block("plain.md", name))
    return tmp_path


USER = """
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from gateway import Client, Credentials, Gateway
class User(BaseModel):
    id: str
    rooms: list[str]
def current_user(user: str = Header()) -> User:
    return User(id=user, rooms=["lobby"])
class Say(BaseModel):
    text: str
class ChatMessage(Say):
    author: str
"""


def shown(page: Path, language: str, begins: str = "") -> str:
    """The first block of the language that begins so, or has a line that does."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return next(each for each in found if re.search(f"^{re.escape(begins)}", each, re.MULTILINE))


async def test_the_program_of_the_readme_lets_nobody_in_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_readme.py").write_text(USER + shown(ROOT / "README.md", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    async with Kit("of_readme:app") as kit:
        ann = await kit.connect(headers={"user": "ann"})
        lobby = await ann.subscribe("chat:lobby")
        await ann.publish("chat:lobby", {"text": "hi"})
        assert (await lobby.next()).data == {"author": "ann", "text": "hi"}
        for asked in (ann.subscribe("chat:staff"), ann.publish("chat:staff", {"text": "hi"})):
            with pytest.raises(Refused, match="103"):
                await asked


def test_the_settings_of_the_readme_are_settings(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(shown(ROOT / "README.md", "toml"))
    run(tmp_path, "gateway", "config", "check", "--config", "gateway.toml")


async def test_what_code_says_to_clients_is_said() -> None:
    gateway = Gateway(client={"subscribe_to_user_personal_channel": {"enabled": True}})
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)
    gateway.on_connect(lambda: "7")
    chat = gateway.channel("chat:{room}", message=dict[str, str], history_size=100, presence=True)
    for pattern in ("cursors:{id}", "orders:{id}"):
        gateway.channel(pattern, allow_subscribe_for_client=True)
    names: dict[str, Any] = {"gateway": gateway, "chat": chat, "ChatMessage": dict, "timedelta": timedelta}
    names |= {name: {"text": "hi"} for name in ("message", "notice", "cursor", "order")}
    page = DOCS / "publish.md"
    async with Kit(app) as kit:
        ann, bob = await kit.connect(), await kit.connect()
        cursors, orders = await ann.subscribe("cursors:1"), await bob.subscribe("orders:7")
        with Session() as db:
            names |= {"db": db, "client": ann.id, "client_id": bob.id}
            await execute(shown(page, "python", "await gateway.publish("), names)
            await orders.nothing()
            db.commit()
        assert await ann.message() == {"undo": 3}
        assert (await orders.next()).data == {"text": "hi"}
        await cursors.nothing()
        assert [each.data["text"] for each in names["publications"]] == ["hi", "hello"]
        await execute(shown(page, "python", "await gateway.disconnect("), names)
        assert {(await each.ended()).code for each in (ann, bob)} == {3503}


async def execute(shown: str, names: dict[str, Any]) -> None:
    await eval(compile(shown, "docs", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307  of the documentation


NODE = program("node", "nodejs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_shown_is_javascript(page: Path, tmp_path: Path) -> None:
    for shown in re.findall(r"^```js\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        (tmp_path / "page.mjs").write_text(shown)
        done = subprocess.run([NODE, "--check", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def run(directory: Path, module: str, *arguments: str) -> str:
    done = forked.run(module, arguments, {**os.environ, **SECRET}, directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_chat_passes_the_tests_that_are_shown(chat: Path) -> None:
    shown = ("test_chat.py", "test_first.py")
    assert "4 passed" in run(chat, "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", *shown)


def test_the_rooms_pass_the_tests_that_are_shown(plain: Path) -> None:
    assert "2 passed" in run(plain, "pytest", "-q", "-p", "no:cacheprovider", "test_rooms.py")


async def test_a_page_resumes_as_shown(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plain)
    async with Kit("resume:app", nodes=2) as kit:
        page = await kit.websocket("/ws/lobby")
        await page.send_json({})
        start = await page.receive_json()
        assert not start.pop("recovered")
        await page.send_json("one")
        seen = await page.receive_json()
        assert (seen["offset"], seen["data"]) == (1, "one")
        await page.close()
        await kit.gateway.publish("chat:lobby", "two")
        page = await kit.websocket("/ws/lobby", node=1)
        await page.send_json({"offset": seen["offset"], "epoch": seen["epoch"]})
        assert await page.receive_json() == {"recovered": True, "offset": 1, "epoch": seen["epoch"]}
        await kit.gateway.publish("chat:lobby", "three")
        assert [(await page.receive_json())["data"] for _ in range(2)] == ["two", "three"]
        await page.close()
        page = await kit.websocket("/ws/lobby")
        await page.send_json(start)  # of one that has seen nothing
        assert await page.receive_json() == {"recovered": True, **start}
        assert [(await page.receive_json())["data"] for _ in range(3)] == ["one", "two", "three"]


def test_the_program_of_tokens_passes_its_test(tmp_path: Path) -> None:
    for name in ("jwt_app.py", "test_jwt_app.py"):
        (tmp_path / name).write_text(block("tokens.md", name))
    assert "2 passed" in run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")


def test_the_orders_pass_the_test_that_is_shown(tmp_path: Path) -> None:
    for name in ("orders.py", "test_orders.py"):
        (tmp_path / name).write_text(block("pusher.md", name))
    assert "1 passed" in run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")


def test_the_chat_of_embed_has_typescript(chat: Path) -> None:
    written = run(chat, "gateway", "client", "--typescript", "chat:gateway")
    assert "export function chat(" in written
    assert "interface ChatMessage" in written
    assert compiled(chat, "chat", written, shown(DOCS / "embed.md", "ts")) == ""


SHOP = ("accounts.py", "desk.py", "stock.py", "main.py", "test_main.py")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name in SHOP:
        (tmp_path / name).write_text(block("events.md", name))
    return tmp_path


def test_the_program_of_modules_passes_its_tests(shop: Path) -> None:
    assert "5 passed" in run(shop, "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_main.py")


def test_the_program_of_modules_has_typescript(shop: Path) -> None:
    written = run(shop, "gateway", "client", "--typescript", "main:gateway")
    line = '{ event: "line"; data: SaidLine }'
    assert f'{{ event: "arrived"; data: Arrival }} | {line} | {{ event: "typing"; data: null }}' in written
    assert "TypedSubscription<string | null>" in written
    given = (
        'import { Centrifuge } from "centrifuge"; import { desk } from "./desk"; declare const client: Centrifuge;'
        "declare function show(author: string, text: string): void; declare function blink(): void;"
    )
    assert compiled(shop, "desk", written, given + shown(DOCS / "events.md", "ts")) == ""


def compiled(directory: Path, name: str, written: str, page: str) -> str:
    """What the compiler has to say about a page that imports the generated client as ``name``."""
    (directory / "node_modules").symlink_to(PACKAGES / "node_modules")
    (directory / f"{name}.ts").write_text(written)
    (directory / "page.ts").write_text(page)
    options = ["--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    command = [NODE, "node_modules/typescript/bin/tsc", "--noEmit", "--skipLibCheck", *options, "page.ts"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def news(tmp_path: Path) -> Path:
    for page, name in (("start.md", "main.py"), ("start.md", "test_main.py"), ("scale.md", "test_scale.py")):
        (tmp_path / name).write_text(block(page, name))
    return tmp_path


def test_the_news_pass_the_tests_that_are_shown(news: Path) -> None:
    shown = ("test_main.py", "test_scale.py")
    assert "2 passed" in run(news, "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", *shown)


async def test_the_shop_announces_what_is_committed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer
) -> None:
    monkeypatch.setenv(
        "DATABASE_URL", postgres_server.create_database("shop").replace("postgres:", "postgresql+asyncpg:")
    )
    (tmp_path / "shop.py").write_text(block("postgres.md", "shop.py"))
    monkeypatch.syspath_prepend(tmp_path)
    shop = import_module("shop")
    del sys.modules["shop"]  # other tests have one, too
    transport = httpx.ASGITransport(shop.app)
    async with (
        shop.app.router.lifespan_context(shop.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
        shop.gateway.listen("orders:7") as order,
    ):
        postgres_server.sql("CREATE TABLE orders (id int, state text)", "shop")
        assert (await client.post("/orders/7/lost")).status_code == 404
        postgres_server.sql("INSERT INTO orders VALUES (7, 'new')", "shop")
        assert (await client.post("/orders/7/paid")).status_code == 200
        for statement in re.findall(r"```sql\n(.*?)```", (DOCS / "postgres.md").read_text(), re.DOTALL):
            postgres_server.sql(statement, "shop")
        postgres_server.sql("UPDATE orders SET state = 'returned'", "shop")
        heard = []
        async for publication in order:
            heard.append((publication.offset, publication.data["state"]))
            if len(heard) == 3:
                break
        assert heard == [(1, "paid"), (2, "shipped"), (3, "returned")]
        await shop.sessions.kw["bind"].dispose()


TYPED: list[dict[str, tuple[str, ...]]] = [
    {
        "embed.md": ("chat.py", "test_chat.py"),
        "testing.md": ("test_first.py",),
        "plain.md": ("rooms.py", "test_rooms.py", "resume.py"),
        "tokens.md": ("jwt_app.py", "test_jwt_app.py"),
        "postgres.md": ("shop.py",),
        "broadcaster.md": ("after.py",),
        "start.md": ("main.py", "test_main.py"),
        "scale.md": ("test_scale.py",),
        "pusher.md": ("orders.py", "test_orders.py"),
    },
    {"events.md": SHOP},
]
"""Programs by page; those of one name are apart, as for the type checker a module has one name."""


@pytest.mark.parametrize("pages", TYPED, ids=" ".join)
def test_the_programs_are_typed(pages: Mapping[str, Sequence[str]], tmp_path: Path) -> None:
    """As strictly as the project, from whose directory: so what has been checked there is not checked once more."""
    files = []
    for page, names in pages.items():
        for name in names:
            (tmp_path / name).write_text(block(page, name))
            files.append(str(tmp_path / name))
    run(ROOT, "mypy", "--strict", *files)
    assert (ROOT / "gateway" / "py.typed").exists(), "or its types count for nothing where it is installed"


def test_the_table_of_engines_is_that_of_the_suites() -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    assert engines.table() in page, "write it anew: python -m tests.engines"
