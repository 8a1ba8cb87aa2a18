"""SIGHUP for one process: the settings are read anew, and hold while it runs."""

import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.config.contradictions import find_warnings
from gateway.config.settings import Settings
from gateway.serve.server import Factory
from gateway.serve.systemd import notify

log = logging.getLogger("gateway.serve.reloading")


class Reloading:
    """Makes the application, and has it go by other settings when asked.

    The application's ``state.reload``, if it has one, takes them, and says what waits for a restart.
    """

    def __init__(self, factory: Factory, read: Callable[[], Settings] | None) -> None:
        self._factory = factory
        self._read = read
        self._app: Any = None

    def make(self, settings: Settings) -> Any:
        self._app = self._factory(settings)
        return self._app

    def hangup(self) -> None:
        """Read the settings and take them over. What is wrong with them is logged, and those of before hold on."""
        if self._read is None:
            log.warning("SIGHUP changes nothing here: nobody has said where the settings come from")
            return
        announce_reload()
        settings = read_or_tell(self._read)
        if settings is not None:
            take_over(self._app, settings)
        notify("READY=1")


def read_or_tell(read: Callable[[], Settings]) -> Settings | None:
    """The settings as they are now. None when they are wrong, which is logged, as warnings are."""
    try:
        settings = read()
    except Exception as error:  # whatever it is, those who are connected stay
        _tell(error)
        return None
    for warning in find_warnings(settings):
        log.warning(warning)
    return settings


def take_over(app: Any, settings: Settings) -> None:
    """Have a running application go by other settings; if it cannot, it goes on with those it has."""
    reload: Callable[[Settings], object] | None = getattr(getattr(app, "state", None), "reload", None)
    if reload is None:
        log.warning("the application cannot take settings over while it runs; they wait for a restart")
        return
    try:
        reload(settings)
    except Exception as error:
        _tell(error)
    else:
        set_log_level(settings)


def set_log_level(settings: Settings) -> None:
    """Log what ``log.level`` says from now on."""
    log_settings = getattr(settings, "log", None)
    if log_settings is not None:
        logging.getLogger("gateway").setLevel(log_settings.level.upper())


def announce_reload() -> None:
    """Tell systemd that a reload begins; ``READY=1`` says that it is over."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def _tell(error: Exception) -> None:
    for line in (str(error) or repr(error)).splitlines():
        log.error("%s", line)
    log.error("these settings are not taken over; those of before hold on")
