"""The page of an example, its style, and the official JavaScript SDKs."""

from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
SDKS = {"centrifuge.js": "centrifuge/dist/centrifuge.js", "pusher.js": "pusher-js/dist/web/pusher.min.js"}
"""By the names that pages have for them."""

MISSING = """<!doctype html><title>Not installed</title><link rel="stylesheet" href="/style.css">
<main><h1>One step is missing</h1><p>This page uses an official JavaScript SDK. Install it, then reload:</p>
<pre>{}</pre></main>"""


def mount(app: FastAPI, name: str) -> None:
    """Serve ``pages/<name>.html`` at ``/``, the style at ``/style.css``, SDKs at ``/sdk/centrifuge.js`` and so on."""
    html = (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        if any(f"/sdk/{name}" in html and not (PACKAGES / path).exists() for name, path in SDKS.items()):
            return HTMLResponse(MISSING.format("npm ci --prefix examples"), status_code=503)
        return HTMLResponse(html)

    @app.get("/style.css", include_in_schema=False)
    def style() -> FileResponse:
        return FileResponse(HERE / "pages" / "style.css")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/sdk/{name}", include_in_schema=False)
    def sdk(name: str) -> FileResponse:
        if name not in SDKS:
            raise HTTPException(404)
        return FileResponse(PACKAGES / SDKS[name], media_type="text/javascript")


def mount_built(app: FastAPI, name: str) -> None:
    """Serve the page that Vite has built in ``<name>/dist`` at ``/``."""
    built = HERE / name / "dist" / "index.html"
    build = f"npm ci --prefix examples/{name} && npm run build --prefix examples/{name}"

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        if not built.exists():
            return HTMLResponse(MISSING.format(build), status_code=503)
        return HTMLResponse(built.read_text(encoding="utf-8"))

    app.mount("/", StaticFiles(directory=built.parent, check_dir=False))
