"""What the machine lets a node have."""

import resource
from collections.abc import Iterator

from gateway.config.settings import Settings
from gateway.doctor.finding import About, Finding

EXPECTED = 10_000
"""Connections of a node whose settings name no limit."""

BESIDE = 200
"""Descriptors that a node has for other things: Redis, logs, requests of the server API."""


def examine_files(settings: Settings) -> Iterator[Finding]:
    """The limit of this shell, which a service need not have."""
    about = About("open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = settings.client.connection_limit or EXPECTED
    wanted = connections + BESIDE
    what = "client.connection_limit" if settings.client.connection_limit else "connections, if there are so many"
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield about.ok(f"a process started here may have {_said(soft)}")
        return
    advice = f"ulimit -n {wanted}; for a service LimitNOFILE={wanted} (systemd), ulimits: nofile (compose)"
    if hard != resource.RLIM_INFINITY and hard < wanted:
        advice += f"; root must raise the hard limit, which is {hard}"
    yield about.warning(
        f"a process started here may have {soft}, and each worker needs {wanted}: {connections} {what}", advice
    )


def _said(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)
