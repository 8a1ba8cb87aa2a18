"""The answer of a language model, word by word: to be stopped, resumed after a reload, and read along elsewhere.

    uvicorn examples.tokens:app

The answer's channel stands in the page's address. Whoever opens that, on any instance, gets the whole text so far and
then what comes, while the model itself runs on the instance that was asked. Put your model's client in its place.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field

from examples import pages
from gateway import Gateway

WORD = float(os.environ.get("SECONDS_PER_WORD", "0.1"))

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "tokens")

answers = gateway.channel("answers:{answer}", history_size=10_000, replay=True)


class Question(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=1000)]


class Answer(BaseModel):
    id: UUID


@gateway.on_connect
async def connect() -> None:
    """Everybody may ask."""


@answers.on_subscribe
async def read(answer: str) -> None:
    """Whoever knows the address may read."""


@gateway.rpc("ask")
async def ask(question: Question) -> Answer:
    answer = Answer(id=uuid4())
    await gateway.stream(answers.name(answer=answer.id), think(question.text))
    return answer


@gateway.rpc("stop")
async def stop(answer: Answer) -> None:
    """The model may run on another instance."""
    await gateway.stop_stream(answers.name(answer=answer.id))


async def think(question: str) -> AsyncIterator[str]:
    """A model that has little to say, and takes its time."""
    print(f"thinking about {question!r}", flush=True)
    try:
        for word in ESSAY.format(question=question).split():
            await asyncio.sleep(WORD)
            yield f"{word} "
    finally:  # also when it is stopped: no more words are paid for
        print("no longer thinking", flush=True)


ESSAY = (
    "You ask: “{question}” Let me think aloud. A question that travels to one machine and is answered on another is "
    "much like a letter. What matters is not which postman carries it, but that every page arrives, once, and in "
    "order. So each word of mine gets a number and is kept for a while. If you close the page in the middle of a "
    "sentence and open it again, perhaps on another machine, you will find all that I have said so far, and I will "
    "simply go on. Nobody has to begin again, and no word is said twice. And should you have heard enough, press the "
    "button: I will fall silent at once, wherever I happen to run."
)
