"""A text that people write together, all at once: nobody overwrites anybody, on whichever instance they are.

    npm ci --prefix examples && npm run build --prefix examples && pip install pycrdt
    uvicorn examples.text:app

Each page keeps the text as a Yjs document and publishes what changes in it. The changes make the same document in any
order, so that the channel needs to keep nothing else; one in a hundred stands for all before it. The server reads the
documents with pycrdt. Each address such as `/#minutes` is a text of its own.
"""

from base64 import b64encode
from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pycrdt import Doc, Text
from pydantic import AfterValidator, Base64Bytes, BaseModel

from examples import pages
from gateway import HANDLED, Gateway, Handled

SUMMARY = 100
"""So many changes are followed by one that stands for all before it."""

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
app.mount("/built", StaticFiles(directory=pages.HERE / "dist", check_dir=False))
pages.mount(app, "text")


def readable(update: bytes) -> bytes:
    """Raises ``ValueError`` for what is no update: its sender is told, and nobody else is disturbed."""
    Doc[Text]().apply_update(update)
    return update


class Change(BaseModel):
    update: Annotated[Base64Bytes, AfterValidator(readable)]


# Ten times what is needed: an instance may die before it has published the summary that fell to it.
texts = gateway.channel("text:{name}", message=Change, history_size=10 * SUMMARY, history_ttl="30d", replay=True)


@gateway.on_connect
async def connect() -> None:
    """Everybody may write."""


@texts.on_subscribe
async def open_text(name: str) -> None:
    """Any text."""


@texts.on_publish
async def change(name: str, change: Change) -> Handled:
    text = texts.at(name=name)
    position = await text.publish(change)
    if position.offset % SUMMARY == 0:  # no two changes have the same offset: it falls to one instance alone
        document = await read(name)
        await text.publish(Change(update=b64encode(document.get_update())))
    return HANDLED


@app.get("/texts/{name}")
async def download(name: Annotated[str, Path(pattern=r"^[\w.-]{1,100}$")]) -> PlainTextResponse:
    document = await read(name)
    return PlainTextResponse(str(document.get("text", type=Text)))


async def read(name: str) -> Doc[Text]:
    """The text as it is, from all changes that are kept."""
    document = Doc[Text]()
    changes, _ = await texts.at(name=name).history()
    for each in changes:
        document.apply_update(each.data.update)
    return document
