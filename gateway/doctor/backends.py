"""Backends that decide events: whether somebody is there. They are asked nothing."""

import asyncio
import ssl
from urllib.parse import urlsplit

from gateway.config.backends import find_asked, find_backends, place_of
from gateway.config.settings import ProxySettings, Settings
from gateway.doctor.finding import About, Finding
from gateway.redis.endpoint import tls_context

PORTS = {"http": 80, "https": 443}


async def examine_backends(settings: Settings) -> list[Finding]:
    """One finding for each that is asked about anything."""
    asked = {place_of(settings, each.event, each.name) for each in find_asked(settings)}
    looked_at = [(place, backend) for place, backend in find_backends(settings) if place in asked]
    return list(await asyncio.gather(*[_examine(place, backend) for place, backend in looked_at]))


async def _examine(place: str, backend: ProxySettings) -> Finding:
    about, url = About(place), urlsplit(backend.endpoint)
    port = url.port or PORTS[url.scheme]
    where = f"{url.hostname}:{port}"
    try:
        context = _context(backend) if url.scheme == "https" else None
        async with asyncio.timeout(backend.timeout):
            name = backend.http.tls.server_name if context and backend.http.tls.enabled else ""
            _, writer = await asyncio.open_connection(
                url.hostname, port, ssl=context, server_hostname=name or url.hostname if context else None
            )
            writer.close()
    except TimeoutError:
        text = f"{where} does not let connect within {backend.timeout:g} s"
        return about.problem(text, "see that the backend runs, and that nothing stands between; or give it a timeout")
    except OSError as error:
        return about.problem(f"{where}: {error}", "see that the backend runs there, or correct the endpoint")
    return about.ok(f"somebody is at {where}")


def _context(backend: ProxySettings) -> ssl.SSLContext:
    tls = backend.http.tls
    return tls_context(tls) if tls.enabled else ssl.create_default_context()
