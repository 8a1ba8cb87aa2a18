"""The admin page: in a browser on a gateway that does not exist, and its figures without one."""

import json
import shutil
import subprocess
from pathlib import Path

from gateway.config.settings import Settings
from tests.admin.mock import STATIC, Cluster, Site
from tests.browsing import Browser
from tests.integration.processes import program
from tests.serving import on_plain_uvicorn

HERE = Path(__file__).parent
STEPS = 12


async def test_the_page_in_a_browser(browser: Browser) -> None:
    sites = Site(Cluster(400)), Site(Cluster(10), password="")
    async with (
        on_plain_uvicorn(sites[0].app, Settings()) as guarded,
        on_plain_uvicorn(sites[1].app, Settings()) as open_to_all,
    ):
        urls = [f"http://127.0.0.1:{port}/admin/" for port in (guarded, open_to_all)]
        assert len(await browser.script(HERE / "page.mjs", *urls)) == STEPS


def test_figures_json_and_addresses(tmp_path: Path) -> None:
    for file in (*STATIC.glob("*.js"), HERE / "figures.test.mjs"):
        shutil.copy(file, tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    command = [program("node", "nodejs"), "--test", str(tmp_path / "figures.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
