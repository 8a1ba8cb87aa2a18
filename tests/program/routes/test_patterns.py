"""Patterns of channel names."""

import uuid

import pytest

from gateway.program.routes.patterns import Pattern

ID = uuid.UUID("8c5f3a0e-5a39-4d5b-9d59-0f2b8a7f6c11")


@pytest.mark.parametrize(
    ("pattern", "name", "params"),
    [
        ("lobby", "lobby", {}),
        ("lobby", "lobby2", None),
        ("chat:{room}", "chat:main", {"room": "main"}),
        ("chat:{room}", "chat:größe 1", {"room": "größe 1"}),
        ("chat:{room}", "chat:", None),
        ("chat:{room}", "chat:a:b", None),
        ("chat:{room}", "chat:a/b", None),
        ("chat:{room}", "xchat:a", None),
        ("chat:{room:str}", "chat:a", {"room": "a"}),
        ("{kind}:{room}", "chat:main", {"kind": "chat", "room": "main"}),
        ("orders:{id:int}", "orders:7", {"id": "7"}),
        ("orders:{id:int}", "orders:-7", None),
        ("orders:{id:int}", "orders:seven", None),
        ("at:{height:float}", "at:1.5", {"height": "1.5"}),
        ("at:{height:float}", "at:x", None),
        ("item:{id:uuid}", f"item:{ID}", {"id": str(ID)}),
        ("item:{id:uuid}", "item:7", None),
        ("files:{name:path}", "files:a/b:c", {"name": "a/b:c"}),
        ("a.b:{x}", "aXb:1", None),
        ("a+{x}", "a+1", {"x": "1"}),
        ("dm:{a}-{b}", "dm:1-2", {"a": "1", "b": "2"}),
        ("day:{y:int}-{m:int}-{d:int}", "day:2026-11-21", {"y": "2026", "m": "11", "d": "21"}),
        ("{a}:{b}:{c}/{d}-{e:path}", "1:2:3/4-5", {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}),
    ],
)
def test_matches_whole_names(pattern: str, name: str, params: dict[str, str] | None) -> None:
    assert Pattern(pattern).match(name) == params


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must not be empty"),
        ("chat:{room", "braces do not match"),
        ("chat:room}", "braces do not match"),
        ("chat:{{room}}", "braces do not match"),
        ("chat:{}", "write {room} or {id:int}"),
        ("chat:{1}", "is no parameter"),
        ("chat:{room:}", "is no parameter"),
        ("chat:{room:number}", '"number" in "chat:{room:number}" is no type of a parameter; there are float, int'),
        ("{a}:{a}", 'the parameter "a" stands twice'),
        ("{a}-{b}-{c}", "it is not clear where a parameter ends"),
        ("{a}-{b}:{c}-{d}", "it is not clear where a parameter ends"),
        ("{a:int}{b:int}{c:int}", "it is not clear where a parameter ends"),
        ("{a:path}-{b:path}-{c}", "it is not clear where a parameter ends"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        Pattern(text)
    assert problem in str(caught.value)


def test_makes_names() -> None:
    assert Pattern("chat:{room}").format(room="main") == "chat:main"
    assert Pattern("item:{id:uuid}:{n:int}").format(id=ID, n=3) == f"item:{ID}:3"
    assert Pattern("lobby").format() == "lobby"


@pytest.mark.parametrize(
    ("pattern", "params", "problem"),
    [
        ("chat:{room}", {}, "takes room"),
        ("chat:{room}", {"name": "x"}, "takes room"),
        ("lobby", {"room": "x"}, "takes no parameters"),
        ("chat:{room}", {"room": "a:b"}, '"chat:a:b" is not a channel of the pattern'),
        ("chat:{room}", {"room": ""}, "is not a channel"),
        ("orders:{id:int}", {"id": "x"}, "is not a channel"),
    ],
)
def test_makes_no_name_that_it_would_not_match(pattern: str, params: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        Pattern(pattern).format(**params)
    assert problem in str(caught.value)
