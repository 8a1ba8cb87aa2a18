"""What stands on standard error: a line each, whatever strangers send, and no secret in any."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.tokens import sign_connection
from gateway.config.settings import LogSettings
from gateway.recurring import Address
from gateway.serve.logs import FIELDS, JsonFormatter, TextFormatter, log_to_stderr, without_query, without_secrets

SECRET = "a-very-secret-word"
TOKEN = sign_connection("x" * 40, "alice")


class Stream(io.StringIO):
    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as it was before the test set it up."""
    names = ("", "gateway", "gateway.access", "uvicorn", "uvicorn.access", "httpx")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.level, each.propagate, each.handlers[:], each.filters[:]) for each in loggers]
    yield
    for each, level, propagate, handlers, filters in before:
        each.setLevel(level)
        each.propagate = propagate
        each.handlers[:], each.filters[:] = handlers, filters


def log_as(**settings: Any) -> Stream:
    """Set logging up; what it writes."""
    log_to_stderr(LogSettings.model_validate(settings))
    stream = Stream()
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    return stream


def record(text: str, *args: object, failure: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    info = (type(failure), failure, failure.__traceback__) if failure else None
    made = logging.LogRecord("gateway.part", logging.WARNING, "file.py", 1, text, args, info)
    made.__dict__.update(extra)
    return made


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["gateway debug", "other info", "gateway info", "other error"]),
        ("info", ["other info", "gateway info", "other error"]),
        ("WARN", ["other error"]),
        ("error", ["other error"]),
    ],
)
def test_levels(restored: None, level: str, told: list[str]) -> None:
    stream = log_as(level=level)
    gateway, other = logging.getLogger("gateway.part"), logging.getLogger("other.part")
    gateway.debug("gateway debug")
    other.debug("other debug")
    other.info("other info")
    gateway.info("gateway info")
    other.error("other error")
    logging.getLogger("uvicorn.error").info("it tells of everything")
    assert [line.rpartition(": ")[2] for line in stream.lines] == told


def test_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match="'debug', 'info', 'warning' or 'error'"):
        LogSettings.model_validate({"level": "loud"})
    with pytest.raises(ValueError, match="'debug', 'info', 'warning' or 'error'"):
        LogSettings.model_validate({"level": 3})


def test_what_a_stranger_writes_stays_on_its_line() -> None:
    for evil in ("\n2026-01-01 INFO all is well", "\r\n", "\x1b[2J", "\x9b2J", "\u2028", "\u202egnp.exe", "\0"):
        text = TextFormatter().format(record("user %s", evil))
        assert len(text.splitlines()) == 1
        assert all(character.isprintable() for character in text), text
        [line] = JsonFormatter().format(record("user %s", evil)).splitlines()
        assert json.loads(line)["message"].startswith("user ")


def failed(text: str) -> BaseException:
    try:
        raise ValueError(text)
    except ValueError as failure:
        return failure


def test_a_traceback_is_indented_so_that_nothing_in_it_looks_like_a_line() -> None:
    failure = failed(f"bad\n2026-01-01 INFO all is well\x1b?token={SECRET}")
    first, *rest = TextFormatter().format(record("it failed\n", failure=failure)).split("\n")
    assert first.endswith(f"WARNING [{os.getpid()}] gateway.part: it failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    2026-01-01 INFO all is well\\x1b?token=***"
    told = json.loads(JsonFormatter().format(record("it failed", failure=failure)))
    assert told["traceback"].startswith("Traceback")
    assert SECRET not in told["traceback"]


@pytest.mark.parametrize(
    "text",
    [
        f"GET /connection/uni_sse?cf_connect={SECRET}&x=1",
        f"/api/publish?api_key={SECRET}",
        f"/?access_token={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: apikey {SECRET}, x: y",
        f"{{'authorization': 'Basic {SECRET}'}}",
        f"(b'authorization', b'{SECRET}')",
        f"X-API-Key: {SECRET}",
        f"redis://user:{SECRET}@redis:6379/0",
        f"redis://:{SECRET}@redis:6379/0",
        f"password={SECRET}",
        f"the token {TOKEN} is none",
    ],
)
def test_secrets_are_masked_wherever_they_come_from(text: str) -> None:
    shown = without_secrets(text)
    assert SECRET not in shown
    assert TOKEN not in shown
    assert "***" in shown
    for formatter in (TextFormatter(), JsonFormatter()):
        assert shown[:4] in formatter.format(record("%s", text))
        assert SECRET not in formatter.format(record("%s", text))


def test_what_is_no_secret_is_shown() -> None:
    for text in ("the token has expired", "client.token.hmac_secret_key is needed", "http://127.0.0.1:8000/x?a=b"):
        assert without_secrets(text) == text


class Named:
    def __str__(self) -> str:
        return "client 1"

    def log_fields(self) -> dict[str, str]:
        return {"client": "1", "user": "bob", "address": "::1"}


def test_a_line_of_json(restored: None) -> None:
    stream = log_as(format="json")
    log = logging.getLogger("gateway.part")
    log.warning("%s: %s", Named(), "slow", extra={"reason": "slow_client", "count": 3, "seconds": 60})
    log.info("from %s", Address("127.0.0.1"))
    log.info("%(a)s", {"a": 1})
    first, second, third = map(json.loads, stream.lines)
    assert list(first) == list(FIELDS)[: list(FIELDS).index("seconds") + 1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert (first["level"], first["message"], first["user"]) == ("warning", "client 1: slow", "bob")
    assert (second["address"], second["message"], third["message"]) == ("127.0.0.1", "from 127.0.0.1", "1")
    assert {*first, *second, *third} <= set(FIELDS)


def test_lines_of_requests_have_no_query(restored: None) -> None:
    stream = log_as(format="json")
    access = logging.getLogger("uvicorn.access")
    assert access.propagate
    parts = ("127.0.0.1:1", "GET", f"/connection/uni_sse?cf_connect={SECRET}", "1.1", 200)
    access.info('%s - "%s %s HTTP/%s" %d', *parts)
    line = json.loads(stream.getvalue())
    assert line["message"] == '127.0.0.1:1 - "GET /connection/uni_sse HTTP/1.1" 200'
    assert [line[name] for name in ("address", "method", "path", "status")] == [
        "127.0.0.1",
        "GET",
        "/connection/uni_sse",
        200,
    ]
    assert without_query(record("another line"))


def test_the_documentation_has_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
    section = page.split("\n## Logs\n")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)) == FIELDS
