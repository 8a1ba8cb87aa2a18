"""``/asyncapi.json`` and ``/asyncapi``: the contract of the program that is running."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from gateway.contracts.asyncapi import asyncapi
from gateway.contracts.contract import PATH, Contract
from gateway.contracts.page import POLICY, page

# anything else in a Host header is not worth repeating
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def contracts_router(find: Callable[[], Contract]) -> APIRouter:
    """The two routes. ``find`` gives the contract, and is asked once: when somebody looks for the first time."""
    router, find = APIRouter(include_in_schema=False), cache(find)

    @router.get("/asyncapi.json")
    def document(request: Request) -> JSONResponse:
        return JSONResponse(asyncapi(_seen(find(), request)), headers={"Cache-Control": "no-cache"})

    @router.get("/asyncapi")
    def readable(request: Request) -> HTMLResponse:
        return HTMLResponse(page(_seen(find(), request)), headers=_HEADERS)

    return router


def _seen(contract: Contract, request: Request) -> Contract:
    """The contract with the address at which the caller has found it."""
    host = request.headers.get("host", "")
    prefix = request.url.path.rpartition("/asyncapi")[0]
    contract = replace(contract, path=prefix + PATH, secure=request.url.scheme == "https")
    return replace(contract, host=host) if _HOST.fullmatch(host) else contract
