"""Channels of a program, and of the settings."""

from typing import Any

from gateway import Gateway, Settings
from gateway.doctor.finding import Level
from gateway.doctor.program import examine_namespaces, examine_program
from tests.doctor.looking import bad, one, texts

KEYS: Any = {"token": {"hmac_secret_key": "a" * 32}}


def test_a_program_with_nothing_wrong() -> None:
    gateway = Gateway()
    chat = gateway.channel("chat:{room}")

    @chat.on_subscribe
    async def join() -> None: ...

    @chat.on_publish
    async def say() -> None: ...

    @gateway.rpc("rooms")
    async def rooms() -> None: ...

    assert texts(examine_program(gateway)) == ["1 channels, 1 procedures"]


def test_channels_that_only_the_program_publishes_to() -> None:
    gateway = Gateway()
    gateway.channel("news", allow_subscribe_for_client=True)
    spoken = gateway.channel("chat", allow_subscribe_for_client=True)
    gateway.channel("lobby", allow_subscribe_for_client=True, allow_publish_for_subscriber=True)
    silent = gateway.channel("told", allow_subscribe_for_client=True)

    @spoken.event("typing")
    async def typing(what: dict[str, str]) -> dict[str, str]:
        return what

    silent.event("said", dict[str, str])
    notes = [finding for finding in examine_program(gateway) if finding.level is Level.NOTE]
    assert [(finding.about, finding.text[:21]) for finding in notes] == [
        ("channel news", "no client may publish"),
        ("channel told", "no client may publish"),
    ]


def test_channels_that_nobody_may_subscribe_to() -> None:
    gateway = Gateway()
    gateway.channel("chat:{room}", allow_publish_for_client=True)
    assert one(examine_program(gateway), "no client may subscribe").level is Level.WARNING
    keyed = Gateway(client=KEYS)
    keyed.channel("chat:{room}", allow_publish_for_client=True)
    assert one(examine_program(keyed), "only who has a token").level is Level.NOTE


def test_patterns_that_share_names_and_neither_is_the_narrower() -> None:
    gateway = Gateway(client={"insecure": True})
    gateway.channel("{kind}:lobby")
    gateway.channel("chat:{room}")
    [found] = bad(examine_program(gateway))
    assert (found.level, found.about) == (Level.WARNING, "channel chat:{room}")
    assert "such as chat:lobby, are those of gateway.channel" in found.text


def test_a_narrower_pattern_comes_first_on_purpose() -> None:
    gateway = Gateway(client={"insecure": True})
    gateway.channel("chat:lobby")
    gateway.channel("chat:{id:int}")
    gateway.channel("chat:{room}")
    gateway.channel("game:{id:uuid}")
    assert bad(examine_program(gateway)) == []


def test_a_namespace_behind_a_route() -> None:
    settings: Any = [{"name": "chat"}, {"name": "news"}]
    gateway = Gateway(client={"insecure": True}, channel={"namespaces": settings})
    gateway.channel("chat:{room}")
    [found] = bad(examine_program(gateway))
    assert (found.about, "names such as chat:x" in found.text) == ("namespace chat", True)


def test_namespaces_of_the_settings() -> None:
    namespaces: Any = [
        {"name": "shut"},
        {"name": "open", "allow_subscribe_for_client": True},
        {"name": "dm", "allow_user_limited_channels": True},
    ]
    settings = Settings(channel={"namespaces": namespaces})
    [found] = examine_namespaces(settings)
    assert (found.about, found.level) == ("namespace shut", Level.WARNING)
    [found] = examine_namespaces(Settings(channel={"namespaces": namespaces}, client=KEYS))
    assert found.level is Level.NOTE
    assert list(examine_namespaces(Settings(channel={"namespaces": namespaces}, client={"insecure": True}))) == []
