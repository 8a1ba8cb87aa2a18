"""Apps that the program knows."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.apps.base import App
from gateway.apps.loaded import MOST_UNKNOWN, RETRY, UNKNOWN_TTL, LoadedApps, open_apps
from gateway.apps.static import StaticApps
from gateway.config.settings import PusherApp, PusherSettings
from gateway.errors import Error, ErrorCode
from tests.apps.test_static import FORMER, app
from tests.waiting import until

TTL = 60.0
SETTINGS = PusherSettings.model_validate({"namespace": "tenants", "apps": [app(9)], "app_ttl": TTL})


class Program:
    """What it knows, and how often it has been asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.apps: dict[str, Any] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def load(self, key: str) -> Any:
        self.asked.append(key)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.apps.get(key)

    def has(self, number: int = 1, **other: Any) -> None:
        found = PusherApp.model_validate(app(number, **{"namespace": f"tenants:{number}", **other}))
        self.apps.update(dict.fromkeys((found.key, *(each.key for each in found.former_keys)), found))

    def open(self, settings: PusherSettings = SETTINGS, timeout: float = 600.0) -> LoadedApps:
        return LoadedApps(self.load, StaticApps(settings), settings, clock=lambda: self.now, timeout=timeout)


@pytest.fixture
def program() -> Program:
    found = Program()
    found.has()
    return found


async def found(asking: Awaitable[App | None]) -> App:
    app = await asking
    assert app is not None
    return app


async def fails(asking: Awaitable[App | None]) -> bool:
    with pytest.raises(Error) as caught:
        await asking
    return caught.value.code == ErrorCode.INTERNAL


async def test_an_app_is_asked_for_once_and_then_known(program: Program) -> None:
    apps = program.open()
    assert apps.known("key1") is apps.by_id("901") is apps.of_channel("tenants:1:x") is None
    first = await found(apps.find("key1"))
    assert first is await apps.find("key1") is apps.known("key1") is apps.by_id("901")
    assert first is apps.of_channel("tenants:1:x")
    assert first.names.inside("news") == "tenants:1:news"
    assert program.asked == ["key1"]


async def test_those_of_the_settings_are_asked_of_nobody(program: Program) -> None:
    apps = program.open()
    assert apps.known("key9") is await apps.find("key9") is apps.by_id("909") is apps.of_channel("n9:x") is not None
    assert program.asked == []


async def test_all_who_ask_at_a_time_are_answered_at_once(program: Program) -> None:
    program.gate.clear()
    apps = program.open()
    askers = [asyncio.ensure_future(apps.find("key1")) for _ in range(3)]
    await until(lambda: bool(program.asked))
    askers.append(asyncio.ensure_future(apps.find("key1")))
    program.gate.set()
    one, *others = await asyncio.gather(*askers)
    assert one is not None
    assert all(each is one for each in others)
    assert program.asked == ["key1"]


async def test_who_goes_away_leaves_the_answer_to_the_others(program: Program) -> None:
    program.gate.clear()
    apps = program.open()
    first, second = (asyncio.ensure_future(apps.find("key1")) for _ in range(2))
    await until(lambda: bool(program.asked))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    program.gate.set()
    assert await second is apps.known("key1") is not None


async def test_what_nobody_waits_for_any_more_is_known_all_the_same(program: Program) -> None:
    program.gate.clear()
    apps = program.open()
    asker = asyncio.ensure_future(apps.find("key1"))
    await until(lambda: bool(program.asked))
    asker.cancel()
    program.gate.set()
    await until(lambda: apps.known("key1") is not None)
    assert program.asked == ["key1"]


async def test_an_app_is_believed_for_a_while_and_then_asked_for_again(program: Program) -> None:
    apps = program.open()
    first = await found(apps.find("key1"))
    program.has(max_connections=7)
    program.now += TTL - 1
    assert (await found(apps.find("key1"))).settings.max_connections == 0
    program.now += 1
    assert apps.known("key1") is None
    assert await apps.find("key1") is first, "who is connected goes by the new settings"
    assert first.settings.max_connections == 7
    assert program.asked == ["key1"] * 2


async def test_an_app_that_is_removed(program: Program) -> None:
    apps = program.open()
    first = await found(apps.find("key1"))
    program.apps.clear()
    program.now += TTL
    assert await apps.find("key1") is apps.by_id("901") is apps.of_channel("tenants:1:x") is None
    assert not first.settings.enabled


async def test_a_key_that_is_taken_away(program: Program) -> None:
    program.has(**FORMER)
    apps = program.open()
    first = await found(apps.find("old"))
    assert first is apps.known("key1")
    program.apps.clear()
    program.has()
    program.now += TTL
    assert await apps.find("old") is None
    assert first.secret("old") is None
    program.failure = ValueError()
    program.now += TTL
    assert await apps.find("key1") is first
    assert await fails(apps.find("old")), "not believed any more"
    assert first.settings.enabled
    assert program.asked == ["old", "old", "key1", "old"]


async def test_keys_that_nobody_has_are_asked_for_again_soon(program: Program) -> None:
    apps = program.open()
    for _ in range(3):
        assert await apps.find("key2") is None
    assert program.asked == ["key2"]
    program.has(2)
    program.now += UNKNOWN_TTL
    assert (await found(apps.find("key2"))).id == "902"


async def test_no_end_of_invented_keys_is_kept(program: Program) -> None:
    apps = program.open()
    for number in range(MOST_UNKNOWN + 10):
        assert await apps.find(f"x{number}") is None
    assert len(apps._unknown) == MOST_UNKNOWN
    assert not apps._asking
    assert await apps.find("x0") is None
    assert program.asked[-1] == "x0", "forgotten"


@pytest.mark.parametrize("key", ["", "a b", "ключ", "a" * 65, "k\n", "../x"])
async def test_what_can_be_no_key_is_asked_of_nobody(program: Program, key: str) -> None:
    assert await program.open().find(key) is None
    assert program.asked == []


async def test_what_was_known_holds_while_the_program_fails(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    apps = program.open()
    first = await found(apps.find("key1"))
    program.failure = ValueError("a secret")
    program.now += TTL
    assert await apps.find("key1") is first is apps.known("key1")
    assert await fails(apps.find("key2"))
    assert program.asked == ["key1", "key1", "key2"]
    program.now += RETRY
    assert await apps.find("key1") is first
    assert program.asked[3:] == ["key1"]
    program.failure = None
    program.has(max_connections=7)
    program.now += RETRY
    assert (await found(apps.find("key1"))).settings.max_connections == 7
    begun, over = caplog.messages
    assert begun.startswith("pusher: the program does not tell of apps: ValueError in load, line ")
    assert over.startswith("pusher: the program tells of apps again")
    assert "a secret" not in caplog.text


async def test_no_answer_in_time_is_a_failure(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    program.gate.clear()
    assert await fails(program.open(timeout=0).find("key1"))
    assert "no answer within 0 s" in caplog.text


async def test_each_who_asked_is_told_of_the_failure_by_an_error_of_his_own(program: Program) -> None:
    program.failure = ValueError()
    apps = program.open()
    one, other = await asyncio.gather(apps.find("key1"), apps.find("key1"), return_exceptions=True)
    assert isinstance(one, Error)
    assert isinstance(other, Error)
    assert one is not other
    assert program.asked == ["key1"]


def other_key(program: Program) -> None:
    program.apps["key1"] = PusherApp.model_validate(app(key="elsewhere", namespace="tenants:1"))


def unknown_namespace(program: Program) -> None:
    program.has(namespace="gone:1")


def no_namespace(program: Program) -> None:
    program.has(namespace="tenants:#1")


def namespace_of_settings(program: Program) -> None:
    program.has(namespace="n9")


def id_of_settings(program: Program) -> None:
    program.has(id="909")


def key_of_settings(program: Program) -> None:
    program.has(former_keys=[{"key": "key9", "secret": "s"}])


def no_app(program: Program) -> None:
    program.apps["key1"] = app()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (other_key, 'the app "901" does not have the key that was asked for'),
        (
            unknown_namespace,
            'the namespace "gone:1" of the app "901" is not where apps are: set pusher.namespace = "gone"',
        ),
        (no_namespace, 'the namespace "tenants:#1" of the app "901" is not where apps are'),
        (namespace_of_settings, 'the app "901" has the namespace or a key of "909"'),
        (id_of_settings, 'the app "909" has the id or a key of one in the settings'),
        (key_of_settings, 'the app "901" has the id or a key of one in the settings'),
        (no_app, "it is a dict: give gateway.PusherApp("),
    ],
)
async def test_apps_that_cannot_be(
    program: Program, wrong: Callable[[Program], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    apps = program.open()
    good = await found(apps.find("key1"))
    wrong(program)
    program.now += TTL
    for _ in range(3):
        assert await fails(apps.find("key1")), "not unknown, which would keep clients away for good"
    assert apps.by_id("901") is None
    assert not good.settings.enabled
    assert len(caplog.messages) == 1, "told once"
    assert why in caplog.messages[0]
    assert "secret1" not in caplog.text
    program.apps.clear()
    program.has()
    assert (await found(apps.find("key1"))).settings.enabled


async def test_no_two_apps_are_in_one_namespace_unless_the_first_is_gone(program: Program) -> None:
    apps = program.open()
    first = await found(apps.find("key1"))
    program.has(2, namespace="tenants:1")
    assert await fails(apps.find("key2"))
    program.now += TTL
    second = await found(apps.find("key2"))
    assert apps.of_channel("tenants:1:x") is second
    assert apps.by_id("901") is None
    assert not first.settings.enabled


async def test_apps_of_no_time_are_asked_for_each_time(program: Program) -> None:
    apps = program.open(SETTINGS.model_copy(update={"app_ttl": 0.0}))
    assert await found(apps.find("key1")) is await found(apps.find("key1"))
    assert program.asked == ["key1"] * 2


async def test_other_settings(program: Program) -> None:
    apps = program.open()
    await found(apps.find("key1"))
    assert await apps.find("key2") is None
    program.has(2)
    apps.reload(SETTINGS.model_copy(update={"apps": ()}))
    assert apps.known("key1") is None
    assert (await found(apps.find("key1"))).id == "901"
    assert (await found(apps.find("key2"))).id == "902"
    assert await apps.find("key9") is None


async def test_opening(program: Program) -> None:
    static = open_apps(SETTINGS)
    assert static.known("key9") is not None
    assert await static.find("key1") is None
    loaded = open_apps(SETTINGS, program.load)
    assert (await found(loaded.find("key1"))).id == "901"
