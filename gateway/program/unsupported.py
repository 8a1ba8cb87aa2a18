"""What a program asks for that the engine does not have: found at the start, by name."""

from collections.abc import Iterable, Iterator, Sequence

from gateway.config.map_problems import find_problems_of
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.limits.limit import Limits, Quota
from gateway.program.routes import events
from gateway.program.routes.channel import ChannelRoute

_INSTEAD = 'let engine.type = "redis" join the nodes'


def check_supported(settings: Settings, channels: Sequence[ChannelRoute], limits: Limits) -> list[str]:
    """What an operator should know. Raises `SettingsError` for what cannot be."""
    engine = settings.engine
    problems = [(each, problem) for each in channels for problem in find_problems_of(settings, each.options)]
    if wrong := [f"{route}: {name} {text}" for route, (name, text) in problems]:
        raise SettingsError("\n".join(wrong))
    if engine.type != "broadcaster":
        return []
    if missing := [*_of_channels(channels), *_of_limits(limits)]:
        raise SettingsError("\n".join(f'engine.type = "broadcaster": {text}' for text in missing))
    rates = ", ".join(sorted(f'"{limit.name}"' for limit in limits.declared))
    if not rates:
        return []
    return [f'engine.type = "broadcaster" keeps no counts: of the limits {rates} each node allows as much by itself']


def _of_channels(channels: Iterable[ChannelRoute]) -> Iterator[str]:
    for each in channels:
        if each.options.keeps_history:
            yield f"{each} has history_size, and no history is kept; leave it out, or {_INSTEAD}"
        if events.LIVE.name in each.handlers:
            yield f"{each} has a live source, which no node could be chosen to run; {_INSTEAD}"
        for event in (events.OCCUPIED, events.VACATED):
            if event.name in each.handlers:
                yield (
                    f"{each} has {event.name}, and nobody keeps who is the first and the last of all nodes; use "
                    f"on_subscribe and on_unsubscribe, or {_INSTEAD}"
                )


def _of_limits(limits: Limits) -> Iterator[str]:
    for limit in limits.declared:
        if isinstance(limit, Quota):
            yield f'the quota "{limit.name}" would be one for each node, and end with it; {_INSTEAD}'
