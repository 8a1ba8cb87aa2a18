"""What is wrong with the backends that decide events."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.config.backends import find_asked, find_backends, place_of
from gateway.config.settings import ProxySettings, Settings
from gateway.config.settings.proxies import DEFAULT

OF_THE_REQUEST = frozenset(
    (
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers of a message or of its way, not of a client: another message has its own."""

Problem = tuple[str, str]
"""A setting, and what would be right."""

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""A header's name (RFC 9110, section 5.6.2)."""

_EXAMPLE = "http://127.0.0.1:3000/centrifugo"


def find_backend_problems(settings: Settings) -> Iterator[Problem]:
    """Backends that cannot be asked, and those that nobody has described."""
    for place, backend in find_backends(settings):
        yield from _problems(place, backend)
    names = [each.name for each in settings.proxies]
    for index, name in enumerate(names):
        if name == DEFAULT:
            yield (f"proxies.{index}.name", f'"{name}" is the one that stands with its event; take another name')
        elif name in names[:index]:
            yield (f"proxies.{index}.name", f'"{name}" is there twice; give each a name of its own')
        if not settings.proxies[index].endpoint:
            yield (f"proxies.{index}.endpoint", f'is needed, for example "{_EXAMPLE}"')
    yield from _switch_problems(settings)


def _switch_problems(settings: Settings) -> Iterator[Problem]:
    """Events that are to be asked of nobody. What is read while the gateway runs has the backends of its start."""
    known = {place for place, _ in find_backends(settings)}
    channel = settings.channel
    keys = ["without_namespace", *(f"namespaces.{index}" for index in range(len(channel.namespaces)))]
    for key, options in zip(keys, (channel.without_namespace, *channel.namespaces), strict=True):
        if options.cache_empty_proxy_enabled and options.force_recovery_mode != "cache":
            switch = f"channel.{key}.cache_empty_proxy_enabled"
            yield switch, 'needs a cache: force_recovery = true and force_recovery_mode = "cache"'
    for asked in find_asked(settings):
        place = place_of(settings, asked.event, asked.name)
        if not place:
            yield (
                asked.switch.replace("_enabled", "_name"),
                f'there is no "{asked.name}" in proxies; add one, for example '
                f'proxies = [{{"name": "{asked.name}", "endpoint": "{_EXAMPLE}"}}], which takes a restart',
            )
        elif asked.name == DEFAULT and place not in known:
            yield (
                asked.switch,
                f'needs {place}.endpoint, for example "{_EXAMPLE}/{asked.event}", which takes a restart',
            )


def _problems(place: str, backend: ProxySettings) -> Iterator[Problem]:
    yield from _endpoint_problems(f"{place}.endpoint", backend.endpoint)
    for setting in ("http_headers", "emulated_headers"):
        for name in getattr(backend, setting):
            yield from _header_problems(f"{place}.{setting}", name)
    for name, value in backend.http.static_headers.items():
        yield from _header_problems(f"{place}.http.static_headers", name)
        if any(each in value for each in "\r\n\0"):
            yield (f"{place}.http.static_headers", f"the value of {name} has a line break, which no header has")
    for index, meaning in enumerate(backend.http.status_to_code_transforms):
        key = f"{place}.http.status_to_code_transforms.{index}"
        if meaning.status_code in [each.status_code for each in backend.http.status_to_code_transforms[:index]]:
            yield (f"{key}.status_code", f"{meaning.status_code} is there twice; keep one of the two")
        if meaning.status_code == 200:
            yield (f"{key}.status_code", "200 is an answer, which says itself what it means")
        if bool(meaning.to_error.code) == bool(meaning.to_disconnect.code):
            yield (key, "needs either to_error.code or to_disconnect.code, for example to_error = {code = 403}")
        elif 0 < meaning.to_disconnect.code < 3000:
            yield (f"{key}.to_disconnect.code", "must lie between 3000 and 4999, for example 4001")


def _endpoint_problems(key: str, endpoint: str) -> Iterator[Problem]:
    try:
        url = urlsplit(endpoint)
        right = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        right = False
    if not right or not endpoint.isprintable() or " " in endpoint:
        grpc = "; GRPC is not spoken" if endpoint.startswith("grpc") else ""
        yield (key, f'is no URL of http or https; write for example "{_EXAMPLE}"{grpc}')
    elif url.username is not None or url.password is not None:
        yield (key, "has a user in it: write an Authorization header in http.static_headers instead")


def _header_problems(key: str, name: str) -> Iterator[Problem]:
    if not _TOKEN.fullmatch(name):
        yield (key, f'"{name:.100}" is no name of a header; write for example "Cookie"')
    elif name.lower() in OF_THE_REQUEST:
        yield (key, f'"{name}" is about one message, and the backend is sent another; leave it out')
