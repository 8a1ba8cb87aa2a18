"""Pages of which a part is not installed yet say what to do."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from examples import pages


async def looked_at(app: FastAPI) -> tuple[int, str]:
    async with AsyncClient(transport=ASGITransport(app=app), base_url="http://here") as browser:
        answer = await browser.get("/")
    return answer.status_code, answer.text


async def test_the_sdk_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = FastAPI()
    monkeypatch.setattr(pages, "PACKAGES", tmp_path)
    pages.mount(app, "chat")
    status, text = await looked_at(app)
    assert (status, "npm ci --prefix examples<" in text) == (503, True)


async def test_a_page_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = FastAPI()
    monkeypatch.setattr(pages, "HERE", tmp_path)
    pages.mount_built(app, "react")
    status, text = await looked_at(app)
    assert (status, "npm run build --prefix examples/react<" in text) == (503, True)
    (tmp_path / "react" / "dist").mkdir(parents=True)
    (tmp_path / "react" / "dist" / "index.html").write_text("built")
    assert await looked_at(app) == (200, "built")
