"""The client by which others are called over HTTP: backends that decide, and webhooks."""

import ssl

import aiohttp

from gateway.version import __version__

IDLE = 4.0
"""Seconds that an unused connection is kept: less than what servers keep it (uvicorn and Node 5 s), for what is sent
as they close it may be lost."""

DNS = 10
"""Seconds that an address is believed."""


def open_client(most: int = 0, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A client with at most so many connections; 0 is without limit.

    It keeps these, and nothing else: what one answer sets is no part of another's request. The deadline of a request
    is its caller's to set.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=most, ttl_dns_cache=DNS, keepalive_timeout=IDLE, ssl=tls if tls is not None else True
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding",),
        headers={"User-Agent": f"gateway/{__version__}"},
        trust_env=False,
    )
