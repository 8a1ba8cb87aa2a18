"""Pages: files of those that come with the gateway, where nothing runs but what is served here; and those of others."""

import re
from pathlib import Path

from fastapi import Request
from fastapi.responses import FileResponse

# What a Host header may look like to be named in the policy; anything else could smuggle in directives.
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")


def page_file(path: Path, media_type: str, request: Request) -> FileResponse:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _content_security_policy(request.headers.get("host", "")),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return FileResponse(path, media_type=media_type, headers=headers)


def is_of_another(request: Request) -> bool:
    """Whether a browser has sent the request for a page of another origin, as it says itself (Fetch Metadata)."""
    return request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def _content_security_policy(host: str) -> str:
    """Allow this origin only. Older browsers do not count its WebSockets as ``'self'``, so they are named."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
