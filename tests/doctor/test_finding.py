import json

from gateway.doctor.finding import About, as_json, as_text, exit_code

ABOUT = About("redis 127.0.0.1:6379")
OK, NOTE = ABOUT.ok("Redis 7.2"), ABOUT.note("cannot be seen", "look")
WARNING, PROBLEM = ABOUT.warning("full", "give it more"), ABOUT.problem("away", "start it")


def test_exit_codes() -> None:
    assert exit_code([]) == exit_code([OK, NOTE]) == 0
    assert exit_code([WARNING, OK]) == 1
    assert exit_code([PROBLEM, WARNING]) == 2


def test_as_text() -> None:
    assert as_text([OK, PROBLEM]) == (
        "OK       redis 127.0.0.1:6379: Redis 7.2\nPROBLEM  redis 127.0.0.1:6379: away\n         → start it"
    )


def test_as_json() -> None:
    assert json.loads(as_json(iter([OK, WARNING]))) == {
        "status": "warning",
        "findings": [
            {"level": "ok", "about": "redis 127.0.0.1:6379", "text": "Redis 7.2", "remedy": ""},
            {"level": "warning", "about": "redis 127.0.0.1:6379", "text": "full", "remedy": "give it more"},
        ],
    }
    assert json.loads(as_json([]))["status"] == "ok"
    assert json.loads(as_json([PROBLEM]))["status"] == "problem"
