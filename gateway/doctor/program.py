"""Channels of the settings and of a program: whom they let in, and which of them stand in the way of others."""

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.auth.tokens import TokenVerifier
from gateway.channels import Channels
from gateway.config.settings import ChannelOptions, Settings
from gateway.doctor.finding import About, Finding
from gateway.program.gateway import Gateway
from gateway.program.routes.channel import ChannelRoute
from gateway.program.routes.events import PUBLISH, SUBSCRIBE


def examine_namespaces(settings: Settings) -> Iterator[Finding]:
    """Namespaces that nobody can use."""
    for namespace in settings.channel.namespaces:
        about = About(f"namespace {namespace.name}")
        yield from _subscribers(about, settings, namespace, decides=namespace.subscribe_proxy_enabled)


def examine_program(gateway: Gateway) -> Iterator[Finding]:
    """Patterns that take names from others, and channels that nobody may use."""
    program, settings = gateway._program, gateway.settings
    routes = program.channels
    yield from _shadows(settings, routes)
    for route in routes:
        about = About(f"channel {route.pattern.text}")
        options, asked = route.options, route.handlers
        yield from _subscribers(about, settings, options, decides=SUBSCRIBE.name in asked)
        decides = PUBLISH.name in asked or any(event.handler for event in route.named_events)
        if not (decides or options.allow_publish_for_client or options.allow_publish_for_subscriber):
            yield about.note(
                "no client may publish, only the program and the server API",
                "if clients are to: @channel.on_publish, or allow_publish_for_subscriber=True",
            )
    yield About("program").ok(f"{len(routes)} channels, {len(program.procedures)} procedures")


def _subscribers(about: About, settings: Settings, options: ChannelOptions, *, decides: bool) -> Iterator[Finding]:
    client = settings.client
    open_to = options.allow_subscribe_for_client or options.allow_user_limited_channels or client.insecure
    if decides or open_to:
        return
    if TokenVerifier(client).has_subscription_keys:
        yield about.note("only who has a token for it may subscribe, or is subscribed by the server")
        return
    yield about.warning(
        "no client may subscribe: there is no handler, no option allows it, and no key verifies subscription tokens",
        "allow_subscribe_for_client = true lets every user in; in a program @channel.on_subscribe decides",
    )


def _shadows(settings: Settings, routes: Sequence[ChannelRoute[Any]]) -> Iterator[Finding]:
    """Names that two patterns match belong to the first. That is what is meant if it is the narrower one."""
    names = Channels(settings.channel)
    for index, later in enumerate(routes):
        about = About(f"channel {later.pattern.text}")
        for earlier in routes[:index]:
            narrower = all(later.pattern.match(name) is not None for name in earlier.pattern.extremes())
            taken = [name for name in examples(later, earlier) if names.claim(earlier.route, name) is not None]
            if taken and not narrower:
                yield about.warning(
                    f"some of its names, such as {taken[0]}, are those of {earlier}, which comes before",
                    "declare the narrower pattern first, or give the parameter a type, as in {id:int}",
                )
    for namespace in settings.channel.namespaces:
        name = f"{namespace.name}{settings.channel.namespace_boundary}x"
        first = next((route for route in routes if names.claim(route.route, name) is not None), None)
        if first is not None:
            yield About(f"namespace {namespace.name}").warning(
                f"its options do not hold for names such as {name}: they are those of {first}",
                "give the route these options, or take the namespace out of channel.namespaces",
            )


def examples(later: ChannelRoute[Any], earlier: ChannelRoute[Any]) -> Iterator[str]:
    """Names of the later pattern, of any kind, and some that hold what the earlier one has between its parameters."""
    values = {word for word in earlier.pattern.text.replace("{", ":").replace("}", ":").split(":") if word} | {"7", "a"}
    for value in sorted(values):
        try:
            yield later.pattern.format(**dict.fromkeys(later.pattern.types, value))
        except ValueError:  # none of its parameter's type
            continue
    yield from later.pattern.extremes()
