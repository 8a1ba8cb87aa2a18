"""All that is looked at, one after the other."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from gateway.config.contradictions import find_warnings
from gateway.config.settings import Settings
from gateway.doctor.backends import examine_backends
from gateway.doctor.clients import examine_origin, look_at_token
from gateway.doctor.edge import Edge
from gateway.doctor.finding import About, Finding
from gateway.doctor.http import Address
from gateway.doctor.process import examine_files
from gateway.doctor.redis import RedisExamination
from gateway.errors import SettingsError


class Patient(Struct, frozen=True):
    """What to look at. ``gateway`` is a program's, None for `gateway serve`."""

    settings: Settings
    place: str
    """``host:port`` at which the settings have the gateway listen."""
    gateway: Any = None
    url: str = ""
    """Where it is reached, through whatever stands before it; empty not to look."""
    origin: str = ""
    token: str = ""
    idle: bool = False


async def examine(patient: Patient) -> list[Finding]:
    """All findings. Raises ``SettingsError`` for an address that means nothing."""
    settings, embedded = patient.settings, patient.gateway is not None
    address = Address.of(patient.url or patient.place)
    found = [*_settings(settings, embedded=embedded), *examine_files(settings), *_channels(patient)]
    if patient.origin:
        found += examine_origin(settings, patient.origin, address.authority, same_origin=embedded)
    if patient.token:
        found += await look_at_token(settings, patient.token)
    found += await examine_backends(settings)
    engine, listening = await _engine(settings)
    found += engine
    known = None
    if patient.url:
        edge = Edge(settings, address, patient.origin, patient.token)
        found += await edge.run(idle=patient.idle)
        known = await edge.count_nodes()
    return found + _nodes(settings, known, listening)


def _channels(patient: Patient) -> Iterable[Finding]:
    from gateway.doctor.program import examine_namespaces, examine_program  # what a program needs is slow to import

    return examine_namespaces(patient.settings) if patient.gateway is None else examine_program(patient.gateway)


def _settings(settings: Settings, *, embedded: bool) -> list[Finding]:
    about = About("settings")
    # to a program the warnings about keys do not apply: it may let clients in by itself
    found = [] if embedded else [about.warning(text, "") for text in find_warnings(settings)]
    return found or [about.ok("no contradictions")]


async def _engine(settings: Settings) -> tuple[list[Finding], int | None]:
    """What is found about what joins the nodes, and how many listen there, if that is known."""
    about = About("engine")
    match settings.engine.type:
        case "redis":
            redis = RedisExamination(settings.engine.redis)
            found = await redis.run()
            if settings.presence.enabled:
                found += await RedisExamination(settings.presence.redis, "presence.redis").run()
            return found, redis.nodes
        case "memory":
            return [
                about.note("memory: one process, which forgets all when it ends", "for more, GATEWAY_REDIS_URL")
            ], None
    return [about.note(f"{settings.engine.type}: looked at in the settings alone; /health/ready tells how it is")], None


def _nodes(settings: Settings, known: int | None, listening: int | None) -> list[Finding]:
    """Whether the nodes that should be there know each other: ``known`` of one of them, and ``listening`` in Redis."""
    about, workers = About("nodes"), settings.http_server.workers
    same = "give all of them the same engine.redis.address and engine.redis.prefix"
    if known is not None and listening is not None and known < listening:
        return [
            about.warning(
                f"{listening} listen in Redis, and the one that was asked knows {known}", "wait for 5 s, and look again"
            )
        ]
    if known is not None and listening is not None and known > listening:
        text = f"the one that was asked knows {known}, and {listening} listen in the Redis of these settings"
        return [about.problem(text, f"look with the settings that it has; {same}")]
    if known is not None and known < workers:
        return [about.problem(f"the one that was asked knows {known}, with http_server.workers = {workers}", same)]
    count = known if known is not None else listening
    if count is None:
        return [about.note("who is there is not known", "--url, with the settings' http_api.key")]
    return [about.ok(f"{count} of them")]


def of_settings(error: SettingsError) -> list[Finding]:
    """What is wrong with settings that cannot be read, or a program that is not there: it says what to write."""
    about = About("settings")
    return [about.problem(line, "") for line in str(error).splitlines()]
