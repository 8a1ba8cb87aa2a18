"""How the server's processes log: lines on standard error."""

import logging.config
from typing import Any

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "uvicorn": {"level": "WARNING"},  # it tells of each connection, and of starting and stopping, as we do
        "httpx": {"level": "WARNING"},  # its lines show URLs with their queries
    },
}


def log_to_stderr() -> None:
    """Set logging up as `LOGGING` says."""
    logging.config.dictConfig(LOGGING)
