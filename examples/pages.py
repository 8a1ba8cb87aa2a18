"""The page of an example, its style, and the official JavaScript SDK."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

HERE = Path(__file__).parent
SDK = HERE / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
MISSING = """<!doctype html><title>Not installed</title><link rel="stylesheet" href="/style.css">
<main><h1>One step is missing</h1><p>This page uses the official JavaScript SDK. Install it, then reload:</p>
<pre>{}</pre></main>"""


def mount(app: FastAPI, name: str) -> None:
    """Serve ``pages/<name>.html`` at ``/``, the style at ``/style.css``, the SDK at ``/sdk/centrifuge.js``."""
    html = (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        if "/sdk/centrifuge.js" in html and not SDK.exists():
            return HTMLResponse(MISSING.format("npm ci --prefix examples"), status_code=503)
        return HTMLResponse(html)

    @app.get("/style.css", include_in_schema=False)
    def style() -> FileResponse:
        return FileResponse(HERE / "pages" / "style.css")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/sdk/centrifuge.js", include_in_schema=False)
    def sdk() -> FileResponse:
        return FileResponse(SDK, media_type="text/javascript")


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
