"""Fetching a small document over HTTP, with bounds on everything that somebody else decides."""

import asyncio

import httpx

WITHIN = 2.0
"""Seconds for all of it: clients give up on a command after five, and there may be a second try."""

LARGEST = 256 * 1024
"""Bytes. Sets of keys have some thousands."""

REDIRECTS = 3


class FetchFailed(Exception):  # noqa: N818  it may be away, which is no error of ours
    """The document is not to be had just now. The text is for the log."""


async def fetch(url: str) -> bytes:
    """The document at an address, by way of the environment's proxy (HTTPS_PROXY and its like). Raises ``FetchFailed``.

    An issuer is often out on the Internet, where a server of one's own may get by its proxy alone.
    """
    try:
        async with asyncio.timeout(WITHIN):
            # authorities are read from files, anew each time: they may have changed
            authorities = await asyncio.to_thread(httpx.create_ssl_context)
            async with httpx.AsyncClient(verify=authorities, timeout=WITHIN) as client:
                return await _follow(client, client.build_request("GET", url, headers=_HEADERS))
    except TimeoutError:
        raise FetchFailed(f"no answer within {WITHIN:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:  # the last: a SOCKS proxy
        raise FetchFailed(f"{' '.join(str(error).split()) or type(error).__name__:.200}") from error


_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


async def _follow(client: httpx.AsyncClient, request: httpx.Request) -> bytes:
    for _ in range(1 + REDIRECTS):
        response = await client.send(request, stream=True)
        try:
            if response.next_request is None:
                return await _body(response)
            if request.url.scheme == "https" != response.next_request.url.scheme:
                raise FetchFailed("it sends to an address without TLS")
            request = response.next_request
        finally:
            await response.aclose()
    raise FetchFailed(f"more than {REDIRECTS} redirects")


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise FetchFailed(f"HTTP {response.status_code} {response.reason_phrase:.100}".rstrip())
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("it is compressed, though that was not asked for")  # nobody knows to what size
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LARGEST:
            raise FetchFailed(f"larger than {LARGEST} bytes")
    return bytes(body)
