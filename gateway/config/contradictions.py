"""Settings that contradict each other."""

import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_network
from itertools import islice
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.auth.endpoint import KeyEndpoint
from gateway.auth.keys import configured
from gateway.auth.tokens import TokenVerifier
from gateway.broadcast.backends import problem_of
from gateway.config.backend_problems import find_backend_problems
from gateway.config.backends import find_backends
from gateway.config.map_problems import find_map_problems
from gateway.config.origins import problem_of_origin
from gateway.config.places import Place
from gateway.config.pusher_problems import find_pusher_problems, find_pusher_warnings
from gateway.config.settings import (
    ChannelOptions,
    ChannelSettings,
    ClientSettings,
    HTTPServerSettings,
    RedisSettings,
    Settings,
)
from gateway.config.settings.channels import META_TTL
from gateway.config.settings.limits import read_buckets
from gateway.config.weak import find_weak
from gateway.errors import SettingsError
from gateway.redis.address import read_addresses
from gateway.transports.handshake import BODILESS

TRACING = "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"
"""What traces need; the extra ``otel`` brings it."""
LONGEST = 80
"""Bytes of a directory for Unix sockets, whose whole path may have a hundred or so."""


class Problem(Struct, frozen=True):
    """What is wrong with the setting ``key``, and what would be right."""

    key: str
    text: str


def find_problems(settings: Settings) -> Iterator[Problem]:
    """What cannot work together, or not at all, though each value is right by itself."""
    channel = settings.channel
    yield from _options_problems("channel.without_namespace", channel.without_namespace)
    names: set[str] = set()
    for index, namespace in enumerate(channel.namespaces):
        key = f"channel.namespaces.{index}"
        yield from _options_problems(key, namespace)
        if namespace.name in names:
            yield Problem(f"{key}.name", f'"{namespace.name}" is there twice; give each namespace a name of its own')
        names.add(namespace.name)
    yield from _meta_problems(channel)
    yield from _personal_problems(settings)
    yield from _token_problems(settings)
    rooms = (find_backend_problems, find_map_problems, find_pusher_problems)
    yield from (Problem(key, text) for find in rooms for key, text in find(settings))
    polled = any(each.is_polled for each in (settings.channel.without_namespace, *settings.channel.namespaces))
    if polled and not settings.shared_poll.hmac_secret_key:
        text = 'is needed where subscription_type = "shared_poll": give it the output of "openssl rand -hex 32"'
        yield Problem("shared_poll.hmac_secret_key", text)
    if not _has_modules("aiohttp"):
        yield from _client_problems(settings)
    if settings.engine.type == "postgres":
        yield from _postgres_problems(settings.engine.postgres.dsn)
    server = settings.http_server
    if settings.engine.type == "broadcaster":
        yield from _broadcaster_problems(settings)
    if server.workers > 1 and settings.engine.is_local:
        yield Problem(
            "http_server.workers",
            f"{server.workers} workers cannot share memory: let Redis join them with engine.type = "
            '"redis", for short --redis-url redis://127.0.0.1:6379, or set workers = 1',
        )
    if settings.presence.enabled and settings.engine.type != "redis":
        yield Problem("presence.enabled", 'needs engine.type = "redis"; other engines keep presence themselves')
    if len(os.fsencode(settings.prometheus.directory)) > LONGEST:
        yield Problem(
            "prometheus.directory", f"is longer than {LONGEST} bytes, too long for the sockets that lie in it"
        )
    yield from _address_problems(settings)
    yield from _proxy_problems(server.forwarded_allow_ips)
    yield from _limit_problems(settings)
    yield from _listening_problems(server)
    yield from _transforms_problems(settings)
    if settings.admin.enabled and not (settings.admin.password or settings.admin.insecure):
        yield Problem("admin.enabled", 'needs admin.password: take the output of "openssl rand -hex 32"')
    if settings.opentelemetry.enabled and not _has_modules(*TRACING):
        yield Problem("opentelemetry.enabled", 'needs the libraries of OpenTelemetry: pip install "wsgateway[otel]"')


def _client_problems(settings: Settings) -> Iterator[Problem]:
    """What takes an HTTP client, where there is none."""
    for place, _ in islice(find_backends(settings), 1):
        yield Problem(f"{place}.endpoint", 'needs an HTTP client: pip install "wsgateway[proxy]"')
    if settings.pusher.enabled and any(app.webhooks for app in settings.pusher.apps):
        yield Problem("pusher.apps", 'have webhooks, which need an HTTP client: pip install "wsgateway[proxy]"')


def _has_modules(*names: str) -> bool:
    """Whether they are installed; of their parents alone something is imported."""
    try:
        return all(find_spec(name) is not None for name in names)
    except ModuleNotFoundError:  # of a parent
        return False


def _postgres_problems(dsn: str) -> Iterator[Problem]:
    if not dsn:
        yield Problem("engine.postgres.dsn", 'is needed, for example "postgres://user:password@127.0.0.1:5432/app"')
        return
    try:
        from gateway.postgres.database import checked_dsn  # an extra, of which the start tells where it is missing
    except ImportError:
        return
    try:
        checked_dsn(dsn)
    except SettingsError as error:
        yield Problem("engine.postgres.dsn", str(error).partition(" = ")[2])


def _proxy_problems(text: str) -> Iterator[Problem]:
    """A proxy that is no address is never recognised: then all clients seem to come from one place."""
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            if each != "*":
                ip_network(each)
        except ValueError as error:
            why = "has host bits set" if "host bits" in str(error) else "is no address"
            yield Problem(
                "http_server.forwarded_allow_ips",
                f'"{each}" {why}; write addresses or networks of proxies, for example "127.0.0.1,10.0.0.0/8,fd00::/8"',
            )


def _limit_problems(settings: Settings) -> Iterator[Problem]:
    """Rates that let nothing through, or that nobody keeps."""
    limits, key = settings.client.rate_limit, "client.rate_limit"
    shared = limits.redis_user_command
    if shared.enabled and settings.engine.type not in ("redis", "postgres"):
        yield Problem(f"{key}.redis_user_command.enabled", 'needs engine.type = "redis", or "postgres"')
    largest = settings.client.message_size_limit
    for name in ("client_command", "user_command", "address_command"):
        layer = getattr(limits, name)
        small = [rate for rate, _ in read_buckets(layer.bytes) if rate < largest]
        if layer.enabled is not False and small:
            yield Problem(
                f"{key}.{name}.bytes",
                f"a message of client.message_size_limit = {largest} bytes would never fit; write for example "
                f'"{largest}/second", or make messages smaller',
            )


def _listening_problems(server: HTTPServerSettings) -> Iterator[Problem]:
    key = "http_server"
    try:
        for place in server.internal_places:
            if place in server.places and place != Place(place.host, 0):
                yield Problem(f"{key}.internal_port", f"{place} is for clients already; set internal_port = 9000")
    except ValueError as error:
        yield Problem(f"{key}.internal_address", f"{error}, or set internal_port = 9000")
    for name, tls in (("tls", server.tls), ("internal_tls", server.internal_tls)):
        if tls.enabled and not (tls.cert_pem and tls.key_pem):
            yield Problem(
                f"{key}.{name}.enabled",
                'needs cert_pem and key_pem, for example "/etc/gateway/site.pem" and "/etc/gateway/site.key"',
            )
    by_network = any(not place.path for place in server.places)
    if server.proxy_protocol and by_network and not server.forwarded_allow_ips.strip(" ,"):
        yield Problem(
            f"{key}.proxy_protocol",
            'nobody is trusted: name the proxies, for example forwarded_allow_ips = "10.0.0.0/24"',
        )


def _transforms_problems(settings: Settings) -> Iterator[Problem]:
    """Codes that would be answered in two ways, and bodies that nobody would get."""
    for name, stream in (("uni_http_stream", settings.uni_http_stream), ("uni_sse", settings.uni_sse)):
        seen: set[int] = set()
        for index, each in enumerate(stream.connect_code_to_http_response.transforms):
            key = f"{name}.connect_code_to_http_response.transforms.{index}"
            if each.code in seen:
                yield Problem(f"{key}.code", f"{each.code} is there twice; keep one of the two")
            seen.add(each.code)
            status = each.to.status_code
            if each.to.body and status in BODILESS:
                yield Problem(
                    f"{key}.to.body", f"a response with status {status} has none; leave it out, or answer 403"
                )


def _address_problems(settings: Settings) -> Iterator[Problem]:
    """Addresses that mean nothing, of the Redises that are used."""
    if settings.engine.type != "redis":
        return
    used = {"engine.redis": settings.engine.redis}
    if settings.presence.enabled:
        used["presence.redis"] = settings.presence.redis
    for section, redis in used.items():
        for name in ("password", "sentinel_password"):
            if getattr(redis, name) and getattr(redis, f"{name}_file", ""):
                yield Problem(f"{section}.{name}_file", f"{name} and {name}_file are both given; keep one of them")
        try:
            read_addresses(redis, section)
        except SettingsError as error:
            yield Problem(f"{section}.address", str(error).partition(" = ")[2])


def find_warnings(settings: Settings) -> Iterator[str]:
    """What an operator of `gateway serve` wants to hear though nothing is wrong."""
    client = settings.client
    switches = {
        "client.insecure": client.insecure,
        "client.insecure_skip_token_signature_verify": client.insecure_skip_token_signature_verify,
        "http_api.insecure": settings.http_api.insecure,
        "admin.insecure": settings.admin.enabled and settings.admin.insecure,
    }
    if on := [name for name, value in switches.items() if value]:
        yield f"INSECURE, only for trying out: everything is open to everybody ({', '.join(on)})"
    for pattern in client.allowed_origins:
        if wrong := problem_of_origin(pattern):
            yield f"client.allowed_origins: {json.dumps(pattern, ensure_ascii=False):.100} {wrong}"
    yield from _unused_keys(client)
    yield from find_weak(settings)
    yield from find_pusher_warnings(settings)
    if settings._needless:
        yield (
            f"{settings._needless} settings of the file are Centrifugo's and make no difference here: "
            '"gateway config import" tells which, and why'
        )
    engine = settings.engine
    if engine.is_local and engine.redis != RedisSettings():
        yield (
            f'engine.redis is set and not used, for engine.type = "{engine.type}": let it join the nodes with '
            'engine.type = "redis", or take it away'
        )
    doors = (
        client.insecure,
        client.allow_anonymous_connect_without_token,
        client.user_id_http_header,
        client.proxy.connect.enabled,
        settings.pusher.enabled and settings.pusher.apps,
    )
    if not (any(doors) or TokenVerifier(client).has_keys):
        yield (
            'nobody can connect: give client.token.hmac_secret_key the output of "openssl rand -hex 32", '
            "for short GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY; for trying out on this machine, take --dev"
        )


_KEYS = tuple(f"{kind}_key{many}" for kind in ("hmac_secret", "rsa_public", "ecdsa_public") for many in ("", "s"))


def _unused_keys(client: ClientSettings) -> Iterator[str]:
    """Keys that fetched ones take the place of, and endpoints whose answers anybody on the way can change."""
    for section, tokens in (("client.token", client.token), ("client.subscription_token", client.subscription_token)):
        endpoint = tokens.jwks_public_endpoint
        if endpoint and (unused := [kind for kind in _KEYS if getattr(tokens, kind)]):
            yield (
                f"{section}.{unused[0]} is not used, for with jwks_public_endpoint only the keys of that are: take "
                "away one of the two"
            )
        if endpoint.startswith("http:") and not Place(urlsplit(endpoint).hostname or "").is_loopback:
            yield f"{section}.jwks_public_endpoint has no TLS: who changes what it answers lets anybody in; take https"


def _meta_problems(channel: ChannelSettings) -> Iterator[Problem]:
    """Offsets and epochs that would be forgotten while their publications are still there."""
    keys = ["channel.without_namespace", *(f"channel.namespaces.{index}" for index in range(len(channel.namespaces)))]
    for key, options in zip(keys, (channel.without_namespace, *channel.namespaces), strict=True):
        needed = f"must not be shorter than history_ttl ({options.history_ttl:g}s) of {key}"
        example = f'for example history_meta_ttl = "{max(options.history_ttl, META_TTL):g}s"'
        if 0 < options.history_meta_ttl < options.history_ttl:
            yield Problem(f"{key}.history_meta_ttl", f"{needed}; {example}, or leave it out")
        shared = "history_meta_ttl" in channel.model_fields_set and not options.history_meta_ttl
        if shared and channel.history_meta_ttl < options.history_ttl:
            yield Problem("channel.history_meta_ttl", f"{needed}; {example}, or give that namespace its own")


def _options_problems(key: str, options: ChannelOptions) -> Iterator[Problem]:
    def given(*names: str) -> list[str]:
        return [name for name in names if getattr(options, name)]

    def problem(name: str, text: str) -> Problem:
        return Problem(f"{key}.{name}", text)

    presence = [f"allow_presence_for_{who}" for who in ("client", "subscriber", "anonymous")]
    history = [f"allow_history_for_{who}" for who in ("client", "subscriber", "anonymous")]
    recovery = ["force_recovery", "allow_recovery"]
    if options.history_size and not options.history_ttl:
        yield problem("history_size", 'needs history_ttl, for example history_ttl = "300s"')
    elif options.history_ttl and not options.history_size:
        yield problem("history_ttl", "needs history_size, for example history_size = 100")
    elif not options.keeps_history:
        for name in given(*recovery, "force_positioning", "allow_positioning", *history):
            yield problem(name, 'needs history, for example history_size = 100 and history_ttl = "300s"')
    if options.force_recovery_mode and not given(*recovery, *history):
        yield problem("force_recovery_mode", "needs recovery, for example force_recovery = true")
    if options.force_push_join_leave and not options.join_leave:
        yield problem("force_push_join_leave", "needs join_leave = true")
    if not options.presence and not options.join_leave:
        for name in given(*presence):
            yield problem(name, "needs presence = true")
    if wrong := _regex_error(options.channel_regex):
        yield problem("channel_regex", f'{wrong}; for example channel_regex = "^[a-z0-9]+$"')
    yield from _delta_problems(key, options)


def _delta_problems(key: str, options: ChannelOptions) -> Iterator[Problem]:
    """Patches that nobody would get, and a newest publication that nobody is given."""
    if options.is_polled and options.keeps_history:
        yield Problem(f"{key}.history_size", "is for streams, and a shared_poll is none; leave it out")
    if options.is_polled and options.shared_poll.publish_enabled and options.shared_poll.mode != "versioned":
        yield Problem(f"{key}.shared_poll.publish_enabled", 'needs mode = "versioned"')
    if options.allowed_delta_types and not (options.keeps_history or options.is_map or options.is_polled):
        text = 'needs history, for patches are made of it; for example history_size = 1 and history_ttl = "300s"'
        yield Problem(f"{key}.allowed_delta_types", text)
    if options.delta_publish and not options.allowed_delta_types:
        yield Problem(f"{key}.delta_publish", 'needs allowed_delta_types = ["fossil"], or nobody may ask for patches')
    if options.auto_cache_recover and not (options.force_recovery and options.force_recovery_mode == "cache"):
        yield Problem(f"{key}.auto_cache_recover", 'needs force_recovery = true and force_recovery_mode = "cache"')


def _broadcaster_problems(settings: Settings) -> Iterator[Problem]:
    if wrong := problem_of(settings.engine.broadcaster.url):
        yield Problem("engine.broadcaster.url", wrong)
    channel = settings.channel
    keys = ["without_namespace", *(f"namespaces.{index}" for index in range(len(channel.namespaces)))]
    for key, options in zip(keys, (channel.without_namespace, *channel.namespaces), strict=True):
        if options.keeps_history:
            yield Problem(
                f"channel.{key}.history_size",
                'engine.type = "broadcaster" keeps no history; set history_size = 0 and history_ttl = 0, or let Redis '
                'join the nodes with engine.type = "redis"',
            )


def _personal_problems(settings: Settings) -> Iterator[Problem]:
    personal = settings.client.subscribe_to_user_personal_channel
    key = "client.subscribe_to_user_personal_channel"
    if not personal.enabled:
        return
    known: dict[str, ChannelOptions] = {"": settings.channel.without_namespace}
    known.update((namespace.name, namespace) for namespace in settings.channel.namespaces)
    name = personal.personal_channel_namespace
    if name not in known:
        yield Problem(
            f"{key}.personal_channel_namespace",
            f'there is no namespace "{name}" in channel.namespaces; add one, for example '
            f'channel.namespaces = [{{"name": "{name}"}}], or leave it empty',
        )
    elif personal.single_connection and not known[name].presence:
        where = f'the namespace "{name}"' if name else "channel.without_namespace"
        yield Problem(f"{key}.single_connection", f"needs presence = true in {where}")


def _token_problems(settings: Settings) -> Iterator[Problem]:
    client = settings.client
    for section, tokens in (("token", client.token), ("subscription_token", client.subscription_token)):
        key = f"client.{section}"
        for name in ("audience_regex", "issuer_regex"):
            if wrong := _regex_error(getattr(tokens, name)):
                yield Problem(f"{key}.{name}", f'{wrong}; for example {name} = "^https://example\\.com$"')
        names = [*tokens.hmac_secret_keys, *tokens.rsa_public_keys, *tokens.ecdsa_public_keys]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Problem(key, f'two keys are named "{name}"; give each a name of its own, which logs tell')
        try:
            configured(tokens, key, float)
            if tokens.jwks_public_endpoint:
                KeyEndpoint(tokens, key)
        except SettingsError as error:  # its text begins with the key
            name, _, text = str(error).partition(" ")
            yield Problem(name, text)
    if settings.demo.enabled and client.token.jwks_public_endpoint:
        yield Problem(
            "demo.enabled",
            "the page signs tokens by client.token.hmac_secret_key, which jwks_public_endpoint takes the place of; set "
            "demo.enabled = false",
        )
    elif settings.demo.enabled and not client.token.signing_secret:
        yield Problem(
            "demo.enabled",
            "the page needs tokens: set client.token.hmac_secret_key to the output of "
            '"openssl rand -hex 32", or demo.enabled = false',
        )


def _regex_error(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{json.dumps(pattern)} is not a regular expression ({error})"
    return ""
