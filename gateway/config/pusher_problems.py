"""What is wrong with apps of the Pusher protocol: two that share what must be one's own, and doors that stand open."""

import json
from collections.abc import Iterator, Mapping

from gateway.config.origins import problem_of_origin
from gateway.config.settings import ChannelOptions, ChannelSettings, PusherApp, PusherSettings, Settings
from gateway.config.settings.pusher import ROOM
from gateway.kinds import is_name

Problem = tuple[str, str]
"""A setting, and what would be right."""

DOORS = (
    *(f"allow_{what}_for_{who}" for what in ("subscribe", "publish") for who in ("client", "anonymous")),
    *(f"allow_{what}_for_{who}" for what in ("history", "presence") for who in ("client", "anonymous")),
)
"""By these, clients of other protocols get at channels that the Pusher protocol has signed."""


def find_pusher_problems(settings: Settings) -> Iterator[Problem]:
    pusher = settings.pusher
    if not pusher.enabled:
        return
    yield from _doubles(pusher)
    yield from _name_problems(settings.channel)
    for namespace in dict.fromkeys((*map(pusher.namespace_of, pusher.apps), pusher.namespace)):
        yield from _namespace_problems(settings.channel, namespace)
    for app in pusher.apps:
        if app.enable_subscription_counts and not pusher.subscription_counts:
            yield (
                "pusher.subscription_counts",
                f'the app "{app.id}" has enable_subscription_counts, for which connections must be counted: set '
                "pusher.subscription_counts = true",
            )
    if settings.engine.type not in ("redis", "memory") and any(app.webhooks for app in pusher.apps):
        yield (
            "pusher.apps",
            f'engine.type = "{settings.engine.type}" keeps nothing of what nodes have to tell webhooks; take these '
            'from the apps, or let Redis join the nodes with engine.type = "redis"',
        )
    if settings.engine.type == "broadcaster" and pusher.cache_ttl:
        yield (
            "pusher.cache_ttl",
            'engine.type = "broadcaster" keeps no event of cache channels; set cache_ttl = 0, or let Redis join the '
            'nodes with engine.type = "redis"',
        )


def find_pusher_warnings(settings: Settings) -> Iterator[str]:
    pusher = settings.pusher
    if not pusher.enabled:
        if pusher.apps:
            yield "pusher.apps names apps, and nobody can connect by them: set pusher.enabled = true, or take them away"
        return
    if not pusher.apps:
        yield (
            "pusher.enabled = true, and pusher.apps names none, so that nobody can connect by it, unless a program "
            'knows them (@gateway.pusher.app): for example pusher.apps = [{"id": "9001", "key": "f3c4b2a1d0e9", '
            '"secret": "…"}]'
        )
    most = settings.client.message_size_limit
    for app in pusher.apps:
        if app.enable_client_messages and (size := app.max_event_size + ROOM) > most:
            yield (
                f'pusher.apps: max_event_size of the app "{app.id}" allows client events for which '
                f"client.message_size_limit = {most} closes connections; set that to {size}"
            )
        for pattern in app.allowed_origins:
            if wrong := problem_of_origin(pattern):
                shown = json.dumps(pattern, ensure_ascii=False)
                yield f'pusher.apps: allowed_origins of the app "{app.id}": {shown:.100} {wrong}'
    known = _options(settings.channel)
    for namespace in dict.fromkeys(map(pusher.namespace_of, pusher.apps)):
        options = known.get(namespace.partition(settings.channel.namespace_boundary)[0])
        if options is not None and (open_doors := [name for name in DOORS if getattr(options, name)]):
            where = f'the namespace "{namespace}"' if namespace else "channel.without_namespace"
            yield (
                f"pusher.apps: {where} has {', '.join(open_doors)}, by which clients of other protocols get at "
                "private- and presence- channels without a signature; give the app a namespace of its own"
            )


def _doubles(pusher: PusherSettings) -> Iterator[Problem]:
    """Whom a key, an id or a channel stands for must be one app."""
    holders: dict[tuple[str, str], str] = {}
    for app in pusher.apps:
        for what, value in _own(pusher, app):
            if (what, value) in holders:
                other = holders[what, value]
                of = f'the apps "{other}" and "{app.id}" have' if other != app.id else f'the app "{app.id}" has'
                yield (
                    "pusher.apps",
                    f"{of} one {what}{f' ({json.dumps(value)})' if what != 'key' else ''}; {_ADVICE[what]}",
                )
            holders.setdefault((what, value), app.id)


_ADVICE = {
    "id": "give each an id of its own",
    "key": "give each a key of its own, among former_keys, too",
    "namespace": 'give each a namespace of its own, for example namespace = "shop"',
}


def _own(pusher: PusherSettings, app: PusherApp) -> Iterator[tuple[str, str]]:
    yield "id", app.id
    for key in (app.key, *(each.key for each in app.former_keys)):
        yield "key", key
    yield "namespace", pusher.namespace_of(app)


def _name_problems(channel: ChannelSettings) -> Iterator[Problem]:
    """Signs that would be letters of a name."""
    if is_name(channel.namespace_boundary[-1]) or is_name(channel.namespace_boundary[0]):
        yield "channel.namespace_boundary", 'stands in names of the Pusher protocol; with it, leave it at ":"'
    if is_name(channel.private_prefix[0]):
        yield "channel.private_prefix", 'begins names of the Pusher protocol; with it, leave it at "$"'
    if channel.user_boundary != "#":
        yield "channel.user_boundary", 'must be "#" with the Pusher protocol, for which it marks channels of users'


def _namespace_problems(channel: ChannelSettings, namespace: str) -> Iterator[Problem]:
    known, parts = _options(channel), namespace.split(channel.namespace_boundary)
    options = known.get(parts[0])
    if options is None:
        yield (
            "pusher.apps",
            f'there is no namespace "{parts[0]}" in channel.namespaces, where an app has its channels; add one, for '
            f'example channel.namespaces = [{{"name": "{parts[0]}"}}]',
        )
    elif not all(map(is_name, parts[1:])):
        yield "pusher.apps", f"{json.dumps(namespace)} is no namespace; write letters and digits, as in " + '"shop:eu"'
    elif not options.is_stream:
        yield (
            "pusher.apps",
            f'the namespace "{parts[0]}" has subscription_type = "{options.subscription_type}", and channels of apps '
            "are streams; give the app another",
        )


def _options(channel: ChannelSettings) -> Mapping[str, ChannelOptions]:
    return {"": channel.without_namespace} | {each.name: each for each in channel.namespaces}
