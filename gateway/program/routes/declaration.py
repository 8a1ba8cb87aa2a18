"""What is said of the channels of a pattern, and whether it can be."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_origin

from fastapi.params import Depends
from pydantic import ValidationError

from gateway.config.settings import ChannelOptions
from gateway.errors import SettingsError
from gateway.program.keywords import check_keywords
from gateway.program.routes.options import SUBSCRIBERS, MapKeywords, Options, Who
from gateway.program.routes.signatures import calling_place
from gateway.program.routes.streams import Stream

HISTORY_TTL = 600.0
"""Seconds for which a route with ``history_size`` keeps it unless it says otherwise: a long way through a tunnel."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is said of the channels of a pattern."""

    pattern: str
    options: Options
    message: Any = None
    publish: Who = SUBSCRIBERS
    read: Who = SUBSCRIBERS
    discriminator: str = ""
    dependencies: Sequence[Depends] = ()
    place: str = field(default_factory=calling_place)
    """Where that is, as ``file:line``."""

    @property
    def received(self) -> Any:
        """The type of what subscribers receive; None if nobody says."""
        return get_args(self.message)[0] | None if get_origin(self.message) is Stream else self.message

    def checked(self, pattern: str) -> ChannelOptions:
        """Channel options: history is recovered, and kept for a while, unless they say otherwise.

        Raises `SettingsError` for what cannot be, and ``TypeError`` for an option that there is not.
        """
        for option, who in (("publish", self.publish), ("read", self.read)):
            if who not in get_args(Who):
                raise SettingsError(f"{option}={who!r}: it must be one of {', '.join(map(repr, get_args(Who)))}")
        implied: dict[str, Any] = {}
        if self.options.get("channel_regex"):
            raise SettingsError(
                f'gateway.channel("{pattern}", channel_regex=...): the pattern itself says which names there are, for '
                'example gateway.channel("orders:{id:int}"); what it lets pass, on_subscribe may refuse'
            )
        more = [each.name for each in fields(Declaration) if each.name not in ("pattern", "options", "place")]
        check_keywords("gateway.channel()", self.options, [*more, *Options.__annotations__])
        if self.options.get("history_size"):
            implied = {"history_ttl": HISTORY_TTL, "force_recovery": True}
        if "map" in self.options:
            check_keywords("map=", self.options["map"], MapKeywords.__annotations__)
            implied = {"subscription_type": "map"}
        try:
            return ChannelOptions.model_validate({**implied, **self.options})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise SettingsError(
                f'gateway.channel("{pattern}"): {problems}; for example gateway.channel("{pattern}", history_size=100, '
                "presence=True); there are " + ", ".join(Options.__annotations__)
            ) from error
