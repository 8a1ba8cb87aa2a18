"""Serving: one process, or a supervisor with several workers on the same ports."""

import asyncio
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress

from gateway.config.contradictions import find_warnings
from gateway.config.settings import Settings
from gateway.errors import SettingsError
from gateway.serve.hangup import on_hangup
from gateway.serve.listening import Listeners, announce
from gateway.serve.logs import log_to_stderr
from gateway.serve.server import Factory, run_server
from gateway.serve.sides import check_certificates
from gateway.serve.supervisor import Supervisor

log = logging.getLogger("gateway.serve.serving")


def serve(settings: Settings, factory: Factory, reload: Callable[[], Settings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second one stops at once.

    With several workers SIGHUP replaces them, with the settings that `reload` reads then. Raises `SettingsError` when
    the settings contradict each other, `ServeError` when serving fails.
    """
    http = settings.http_server
    if http.workers > 1 and settings.engine.is_local:
        raise SettingsError(
            f"http_server.workers = {http.workers} needs an engine that joins the workers, "
            'for example engine.type = "redis" with engine.redis.address = "redis://127.0.0.1:6379"'
        )
    log_to_stderr()
    raise_file_limit()
    for warning in find_warnings(settings):
        log.warning(warning)
    check_certificates(http)
    with Listeners(http) as listeners:

        def ready() -> None:
            on_hangup(_refuse_restart, lambda: os.kill(os.getpid(), signal.SIGTERM))
            announce(settings, listeners.all)

        if http.workers > 1:
            asyncio.run(Supervisor(settings, factory, listeners, reload).run())
        else:
            run_server(settings, factory, listeners.all, ready)


def _refuse_restart() -> None:
    log.warning(
        "SIGHUP changes nothing here: one process cannot replace itself without dropping its clients. Restart it, or "
        'run http_server.workers = 2 or more, with engine.type = "redis", which replaces them one after another'
    )


def raise_file_limit() -> None:
    """Allow as many files, hence connections, as the system grants without privilege."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # macOS names a limit and grants less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
