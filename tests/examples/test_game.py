from tests.browsing import Browser, Window
from tests.examples.running import Cluster
from tests.waiting import until

TOWARDS_A_STAR = """(() => {
    const { x, y } = world.players[me]
    const far = (star) => Math.hypot(star.x - x, star.y - y)
    const { x: there, y: up } = world.stars.reduce((one, other) => (far(one) < far(other) ? one : other))
    finger = [there, up]
})()"""


async def play(window: Window, name: str) -> None:
    await window.fill("#name", name)
    await window.press("#name", "Enter")
    await window.wait_text("#scores", name)


async def catch(window: Window, stars: int) -> None:
    """Go after one star and the next, as a player does."""

    async def has_them() -> bool:
        await window.evaluate(TOWARDS_A_STAR)
        return bool(await window.evaluate(f"world.players[me].score >= {stars}"))

    await until(has_them, deadline=30)
    await window.evaluate("finger = null; say()")


async def test_two_play_in_one_arena(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("game")
    async with browser.window(a) as ann, browser.window(b) as bob:
        await play(ann, "Ann")
        await play(bob, "Bob")
        await ann.wait_text("#scores", "Bob")
        await catch(ann, 2)
        await catch(bob, 1)
        for window in (ann, bob):  # both see what one loop decides
            await window.wait_for("world.players.Ann.score >= 2 && world.players.Bob.score >= 1")
        assert await ann.text("#instance") == await bob.text("#instance")
        await ann.screenshot("game")
    async with browser.window(b) as cleo:
        await play(cleo, "Cleo")
        await cleo.wait_no_text("#scores", "Ann")


async def test_keys_move_the_player(cluster: Cluster, browser: Browser) -> None:
    a, _ = cluster("game")
    async with browser.window(a) as ann:
        await play(ann, "Ann")
        await ann.call("dispatchEvent", "canvas", "keydown", {"key": "ArrowLeft"})
        await ann.wait_for("world.players.Ann.x === 0")
        await ann.call("dispatchEvent", "canvas", "keyup", {"key": "ArrowLeft"})


async def test_another_instance_goes_on_with_the_score(cluster: Cluster, browser: Browser) -> None:
    urls = cluster("game")
    async with browser.window(urls[0]) as ann, browser.window(urls[1]) as bob:
        await play(ann, "Ann")
        await play(bob, "Bob")
        runs = await ann.text("#instance")
        [dies] = [url for url in urls if cluster.instance(url).name == runs]
        left, name = (bob, "Bob") if dies == urls[0] else (ann, "Ann")
        await catch(left, 1)
        score = await left.evaluate(f"world.players.{name}.score")
        cluster.instance(dies).kill()
        await left.wait_for(f"world.instance !== {runs!r}")
        assert await left.evaluate(f"world.players.{name}.score") == score
        await catch(left, score + 1)


async def test_pages_cannot_cheat(cluster: Cluster, browser: Browser) -> None:
    [a] = cluster("game", instances=1)
    refused = "centrifuge.publish('{}', {}).catch(({{ code }}) => code)"
    async with browser.window(a) as ann:
        await play(ann, "Ann")
        assert await ann.evaluate(refused.format("arena:lobby", "{ players: { Ann: { score: 1000 } } }")) == 103
        assert await ann.evaluate(refused.format("moves:lobby", "{ x: 1000, y: 0 }")) == 107
        await ann.evaluate("void (window.spy = centrifuge.newSubscription('moves:lobby'))")
        await ann.evaluate("spy.on('unsubscribed', ({ code }) => { window.why = code }).subscribe()")
        await ann.wait_for("window.why === 103")
