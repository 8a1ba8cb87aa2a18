"""Serving: one process, or a supervisor with several workers on the same ports."""

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

from gateway import files
from gateway.config.contradictions import find_warnings
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.hangup import on_hangup
from gateway.serve.listening import Listeners, announce
from gateway.serve.logs import log_to_stderr
from gateway.serve.reloading import Reloading
from gateway.serve.server import Factory, run_server
from gateway.serve.sides import check_certificates
from gateway.serve.supervisor import Supervisor

log = logging.getLogger("gateway.serve.serving")


def serve(settings: Settings, factory: Factory, reload: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once.

    At SIGHUP the settings are read anew by `reload`; several workers are replaced by others where it takes that.
    Raises `SettingsError` when the settings contradict each other, `ServeError` when serving fails.
    """
    http = settings.http_server
    if http.workers > 1 and settings.engine.is_local:
        raise SettingsError(
            f"http_server.workers = {http.workers} needs an engine that joins the workers, "
            'for example engine.type = "redis" with engine.redis.address = "redis://127.0.0.1:6379"'
        )
    log_to_stderr(settings.log)
    raise_file_limit()
    for warning in (*find_warnings(settings), *file_warnings(settings)):
        log.warning(warning)
    reloading = Reloading(factory, reload)
    check_certificates(http)
    with Listeners(http) as listeners:

        def ready() -> None:
            on_hangup(reloading.hangup, lambda: os.kill(os.getpid(), signal.SIGTERM))
            announce(settings, listeners.all)

        if http.workers > 1:
            asyncio.run(Supervisor(settings, factory, listeners, reload).run())
        else:
            run_server(settings, reloading.make, listeners.all, ready)


USUAL_CONNECTIONS = 10_000
"""What a node should have room for whose settings name no limit: about what one core carries."""


def file_warnings(settings: Settings) -> Iterator[str]:
    """What an operator wants to hear of the limit of open files, of which each connection takes one."""
    most, asked = files.limit(), settings.client.connection_limit
    wanted = asked or USUAL_CONNECTIONS
    if most and files.room(most) < wanted:
        why = f"client.connection_limit = {asked}" if asked else f"{USUAL_CONNECTIONS:,} are usual"
        yield (
            f"{most} files may be open, enough for {max(0, files.room(most))} connections of a process ({why}); others "
            f"get HTTP 503. Allow {wanted + files.MOST_SPARE}: LimitNOFILE= of systemd, ulimits.nofile of compose, or "
            "ulimit -n"
        )


def raise_file_limit() -> None:
    """Allow as many files, hence connections, as the system grants without privilege."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS names a limit and grants less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
