"""Keywords that a call does not take: refused, though Python itself would let a ``**options`` take them."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypedDict


class Sections(TypedDict, total=False):
    """The sections of `Settings` as keywords of `Gateway`, for editors and type checkers."""

    node: Mapping[str, Any]
    http_server: Mapping[str, Any]
    client: Mapping[str, Any]
    websocket: Mapping[str, Any]
    http_stream: Mapping[str, Any]
    sse: Mapping[str, Any]
    emulation: Mapping[str, Any]
    uni_websocket: Mapping[str, Any]
    uni_http_stream: Mapping[str, Any]
    uni_sse: Mapping[str, Any]
    shutdown: Mapping[str, Any]
    channel: Mapping[str, Any]
    shared_poll: Mapping[str, Any]
    rpc: Mapping[str, Any]
    proxies: Sequence[Mapping[str, Any]]
    engine: Mapping[str, Any]
    presence: Mapping[str, Any]
    pusher: Mapping[str, Any]
    http_api: Mapping[str, Any]
    health: Mapping[str, Any]
    prometheus: Mapping[str, Any]
    opentelemetry: Mapping[str, Any]
    asyncapi: Mapping[str, Any]
    log: Mapping[str, Any]
    demo: Mapping[str, Any]
    admin: Mapping[str, Any]


def check_keywords(call: str, given: Collection[str], known: Collection[str]) -> None:
    """Raises ``TypeError`` for a keyword that the call does not take, and names the one that was meant."""
    for name in given:
        if name not in known:
            meant = get_close_matches(name, known, n=1)
            guess = f"did you mean '{meant[0]}'? " if meant else ""
            raise TypeError(f"{call} got an unexpected keyword argument '{name}'; {guess}it takes {', '.join(known)}")
