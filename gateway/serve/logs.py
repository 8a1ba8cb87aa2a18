"""How the server's processes log: lines on standard error, as text or as JSON, with no secret in them."""

import json
import logging
import logging.config
import re
import time
from typing import Any

from gateway.config.masking import MASK
from gateway.config.settings import LogSettings

FIELDS = {
    "time": "when, in UTC (RFC 3339, with milliseconds)",
    "level": "`debug`, `info`, `warning` or `error`",
    "logger": "which part of the gateway says it",
    "pid": "the process that says it",
    "message": "the same as in the format `text`",
    "client": "the id of the connection that it is about",
    "user": "the user of that connection; left out if it has none",
    "address": "where its client is: as a proxy tells it that is in `http_server.forwarded_allow_ips`",
    "reason": "what recurs, and is told now and then: for refusals as in `gateway_refusals_total{reason}`",
    "count": "how often it has happened since its line before; at its end, in all",
    "seconds": "since its line before; at its end, how long it has lasted",
    "method": "of a request, with `log.access`",
    "path": "of a request, with `log.access`; without its query",
    "status": "of a request's answer, with `log.access`",
    "traceback": "of a failure that nobody has foreseen",
}
"""What a line of JSON may have, in this order. The first five are always there; further fields may be added."""

_SECRETS = (
    (re.compile(r"\beyJ[\w-]*\.[\w-]+\.[\w-]*"), MASK),  # a JWT, wherever it stands
    (re.compile(r"(?i)\b((?:\w*token|api_key|cf_connect|\w*password|\w*secret)=)[^\s&'\"]+"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)\b((?:authorization|x-api-key)\W{0,2}[:=,]\W{0,3}(?:b['\"])?(?:(?:bearer|apikey|basic) )?)[^\s'\",]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"), rf"\1{MASK}"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What might begin a line of its own, move a terminal's cursor, or turn the order of a text around."""


def without_secrets(text: str) -> str:
    """A line without tokens, keys and passwords, wherever they may have come from."""
    for pattern, masked in _SECRETS:
        text = pattern.sub(masked, text)
    return text


def escaped(text: str) -> str:
    """On one line, whatever a stranger has written into it."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class TextFormatter(logging.Formatter):
    """A line each; of a failure the traceback below, indented, so that nothing in it looks like a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = escaped(without_secrets(record.message.rstrip("\n")))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = without_secrets(super().formatException(ei)).split("\n")
        return "\n".join(f"    {escaped(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """An object each, with the fields of `FIELDS`."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": without_secrets(record.getMessage().rstrip("\n")),
        }
        for each in record.args if isinstance(record.args, tuple) else ():
            if (known := getattr(each, "log_fields", None)) is not None:
                fields |= known()
        fields |= {name: getattr(record, name) for name in FIELDS if name not in fields and hasattr(record, name)}
        if record.exc_info:
            fields["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(fields, default=str)


def without_query(record: logging.LogRecord) -> bool:
    """Cut the query off uvicorn's line of a request, and name its parts."""
    if isinstance(record.args, tuple) and len(record.args) == 5:
        address, method, target, version, status = record.args
        path, host = str(target).partition("?")[0], str(address).rpartition(":")[0]
        record.args = address, method, path, version, status
        record.address, record.method, record.path, record.status = host, method, path, status
    return True


def logging_config(settings: LogSettings) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` takes."""
    level = settings.level.upper()
    others = "INFO" if level == "DEBUG" else level
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"text": {"()": TextFormatter}, "json": {"()": JsonFormatter}},
        "filters": {"query": {"()": lambda: without_query}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": settings.format}},
        "root": {"level": others, "handlers": ["stderr"]},
        "loggers": {
            "gateway": {"level": level},
            "gateway.access": {"level": "INFO"},
            "uvicorn": {"level": "WARNING"},  # it tells of each connection, and of starting and stopping, as we do
            "uvicorn.access": {
                "level": "INFO",
                "filters": ["query"],
                "propagate": True,
            },  # unless uvicorn is told not to
            "httpx": {"level": "WARNING"},  # its lines show URLs with their queries
        },
    }


def log_to_stderr(settings: LogSettings | None = None) -> None:
    """Set logging up as the settings say; again, it changes at once."""
    logging.config.dictConfig(logging_config(settings or LogSettings()))
