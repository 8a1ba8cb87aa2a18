"""How the server's processes log: lines on standard error."""

import logging.config
from typing import Any

from gateway.errors import SettingsError

_MISTAKE = f"{SettingsError.__module__}.{SettingsError.__qualname__}: "


class WithoutTraceback(logging.Filter):
    """Leaves of a traceback that ends with a mistake in the settings what the operator is to mend.

    An application that does not start tells uvicorn why in one text, traceback and all.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        _, found, mistake = record.getMessage().rpartition(_MISTAKE)
        if found:
            record.msg, record.args = mistake.rstrip(), ()
        return True


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"}},
    "filters": {"without_traceback": {"()": WithoutTraceback}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "uvicorn": {"level": "WARNING"},  # it tells of each connection, and of starting and stopping, as we do
        "uvicorn.error": {"filters": ["without_traceback"]},
        "httpx": {"level": "WARNING"},  # its lines show URLs with their queries
    },
}


def log_to_stderr() -> None:
    """Set logging up as `LOGGING` says."""
    logging.config.dictConfig(LOGGING)
