"""The admin page: in a browser on a gateway that does not exist, and its figures without one."""

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from gateway.config.settings import Settings
from tests.admin.mock import STATIC, Cluster, Site
from tests.integration.processes import program
from tests.node import PACKAGES
from tests.serving import on_plain_uvicorn

HERE = Path(__file__).parent
STEPS = 12


async def node(*arguments: object) -> str:
    """What Node says; it has to end well."""
    command = [program("node", "nodejs"), *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


async def test_the_page_in_a_browser() -> None:
    sites = Site(Cluster(400)), Site(Cluster(10), password="")
    async with (
        on_plain_uvicorn(sites[0].app, Settings()) as guarded,
        on_plain_uvicorn(sites[1].app, Settings()) as open_to_all,
    ):
        urls = [f"http://127.0.0.1:{port}/admin/" for port in (guarded, open_to_all)]
        output = await node(HERE / "page.mjs", program("chromium", "chromium"), PACKAGES, *urls)
    assert output.count("ok ") == STEPS, output


async def test_figures_json_and_addresses(tmp_path: Path) -> None:
    for file in (*STATIC.glob("*.js"), HERE / "figures.test.mjs"):
        shutil.copy(file, tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    await node("--test", tmp_path / "figures.test.mjs")
