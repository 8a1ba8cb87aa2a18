"""Settings that contradict each other."""

import json
import re
from collections.abc import Iterator

from msgspec import Struct

from gateway.auth.keys import Keyring
from gateway.auth.tokens import TokenVerifier
from gateway.broadcast.backends import problem_of
from gateway.config.places import Place
from gateway.config.settings import ChannelOptions, HTTPServerSettings, Settings
from gateway.errors import SettingsError
from gateway.redis.address import read_addresses


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
    yield from _personal_problems(settings)
    yield from _token_problems(settings)
    if settings.engine.type == "postgres" and not settings.engine.postgres.dsn:
        yield Problem("engine.postgres.dsn", 'is needed, for example "postgres://user:password@127.0.0.1:5432/app"')
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
    yield from _address_problems(settings)
    yield from _listening_problems(server)


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


def _address_problems(settings: Settings) -> Iterator[Problem]:
    """Addresses that mean nothing, of the Redises that are used."""
    if settings.engine.type != "redis":
        return
    used = {"engine.redis": settings.engine.redis}
    if settings.presence.enabled:
        used["presence.redis"] = settings.presence.redis
    for section, redis in used.items():
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
    }
    if on := [name for name, value in switches.items() if value]:
        yield f"INSECURE, only for trying out: everything is open to everybody ({', '.join(on)})"
    doors = (client.insecure, client.allow_anonymous_connect_without_token, client.user_id_http_header)
    if not (any(doors) or TokenVerifier(client).has_keys):
        yield (
            'nobody can connect: give client.token.hmac_secret_key the output of "openssl rand -hex 32", '
            "for short GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY; for trying out on this machine, take --dev"
        )


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
        try:
            Keyring(tokens, key, float)
        except SettingsError as error:  # its text begins with the key
            name, _, text = str(error).partition(" ")
            yield Problem(name, text)
    if settings.demo.enabled and not client.token.hmac_secret_key:
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
