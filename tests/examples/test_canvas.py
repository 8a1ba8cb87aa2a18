from tests.browsing import Browser
from tests.examples.running import Cluster

EMPTY = "!new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer).some(Boolean)"
QUIET = "!moved && !Object.keys(centrifuge._callbacks).length"
"""All that the page has published is answered: a line that is cut would turn the rest into errors of the page."""


def painted(x: int, y: int) -> str:
    """Whether there is paint at a place, in pixels of the page."""
    scale = "canvas.width / canvas.clientWidth"
    return f"pen.getImageData({x} * {scale}, {y} * {scale}, 1, 1).data[3] > 0"


async def test_what_one_draws_the_others_see_and_latecomers_too(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("canvas")
    async with browser.window(f"{a}/?name=Ann") as ann, browser.window(f"{b}/?name=Bob") as bob:
        for window in (ann, bob):
            await window.wait_text("#state", "connected")
        await ann.drag("canvas", (100, 100), (300, 250), (500, 80), (700, 300))
        await bob.wait_for(painted(200, 175))
        await bob.wait_for(painted(600, 190))
        await bob.wait_text(".cursor", "Ann")
        assert await ann.evaluate("document.querySelectorAll('.cursor').length") == 0  # one's own is not sent back
        await bob.drag("canvas", (200, 350), (400, 380), (600, 350))
        await ann.wait_text(".cursor", "Bob")
        await ann.wait_for(painted(500, 365))
        async with browser.window(f"{b}/?name=Cleo") as late:
            await late.wait_for(painted(200, 175))
            await late.wait_for(painted(500, 365))
        await ann.screenshot("canvas")


async def test_who_leaves_takes_the_cursor_along(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("canvas")
    async with browser.window(f"{a}/?name=Ann") as ann:
        await ann.wait_text("#state", "connected")
        async with browser.window(f"{b}/?name=Bob") as bob:
            await bob.wait_text("#state", "connected")
            await bob.move("canvas", 200, 200)
            await ann.wait_text(".cursor", "Bob")
        await ann.wait_for("!document.querySelector('.cursor')")


async def test_who_was_away_gets_what_was_drawn_and_cleared(cluster: Cluster, browser: Browser) -> None:
    a, b = cluster("canvas")
    async with browser.window(f"{a}/?name=Ann") as ann, browser.window(f"{b}/?name=Bob", cuttable=True) as bob:
        for window in (ann, bob):
            await window.wait_text("#state", "connected")
        await bob.drag("canvas", (50, 50), (90, 90))
        await ann.wait_for(painted(70, 70))
        await bob.wait_for(QUIET)
        await bob.cut()
        await bob.wait_text("#state", "connecting")
        await ann.click("#clear")
        await ann.wait_for(EMPTY)
        await ann.drag("canvas", (300, 300), (500, 300))
        await bob.mend()
        await bob.wait_for(painted(400, 300))
        assert not await bob.evaluate(painted(70, 70))


LONG_STROKE = """
    stroke = { colour, width: 9, points: [last = [0, 0]] }
    const box = canvas.getBoundingClientRect()
    for (let x = 0; x < 500; x++) canvas.onpointermove({ clientX: box.left + x, clientY: box.top + 50 })
    canvas.onpointerup()
"""
"""All of it between two sendings."""


async def test_nonsense_is_not_drawn(cluster: Cluster, browser: Browser) -> None:
    [a] = cluster("canvas", instances=1)
    async with browser.window(a) as window, browser.window(a) as other:
        await window.wait_text("#state", "connected")
        await window.evaluate(LONG_STROKE)
        for x in (150, 450):
            await other.wait_for(painted(x, 50))
        await window.drag("canvas", (100, 300), (200, 300))
        await other.wait_for(painted(150, 300))
        await window.evaluate("{ const much = { colour, width: 99, points: [[.5, .5]] }; paint(much); keep(much) }")
        await window.wait_for("!(pen.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[3] > 0)")
        await window.wait_for(painted(150, 300))
        await window.call("click", "#clear")
        await other.wait_for(EMPTY)
        assert await window.evaluate("centrifuge.rpc('clear', { canvas: 'a:b' }).catch(({ code }) => code)") == 107
        refused = "drawing.publish({ colour: 'red', width: 1, points: [[0, 2]] }).catch(({ code }) => code)"
        assert await window.evaluate(refused) == 107
