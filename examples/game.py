"""A game for many: catch the stars. The server decides, twenty times a second, on one instance of all.

    uvicorn examples.game:app

Pages say only where their player wants to go. That goes to a channel which nobody but the game's loop hears, wherever
the loop runs; the loop's pictures go to everybody. It runs while somebody plays. When its instance dies, another one
goes on from the last picture, so that no score is lost.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field, StringConstraints

from examples import pages
from gateway import Client, Credentials, Gateway

TICK = 0.05
SPEED = 0.35
"""Of the arena's side, in a second."""
REACH = 0.045
"""How near a player must come to a star to have it."""
STARS = 5

gateway = Gateway()
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router)
pages.mount(app, "game")


class SignIn(BaseModel):
    name: Annotated[str, StringConstraints(pattern=r"^\w{1,12}$")]


class Wish(BaseModel):
    """Where a player wants to go."""

    x: Annotated[float, Field(ge=-1, le=1)]
    y: Annotated[float, Field(ge=-1, le=1)]


class Move(Wish):
    player: str


class Star(BaseModel):
    x: float = Field(default_factory=random.random)
    y: float = Field(default_factory=random.random)


class Player(BaseModel):
    x: float = Field(default_factory=random.random)
    y: float = Field(default_factory=random.random)
    score: int = 0
    wish: Wish = Field(default=Wish(x=0, y=0), exclude=True)


class World(BaseModel):
    """What everybody sees."""

    instance: str
    players: dict[str, Player] = {}
    stars: list[Star] = Field(default_factory=lambda: [Star() for _ in range(STARS)])

    def step(self) -> None:
        for player in self.players.values():
            way = SPEED * TICK / max(1, math.hypot(player.wish.x, player.wish.y))
            player.x = min(1, max(0, player.x + way * player.wish.x))
            player.y = min(1, max(0, player.y + way * player.wish.y))
            caught = [star for star in self.stars if math.dist((star.x, star.y), (player.x, player.y)) < REACH]
            player.score += len(caught)
            self.stars = [Star() if star in caught else star for star in self.stars]


# The newest picture is kept: for whoever comes, and for the instance that takes over.
arena = gateway.channel("arena:{name}", presence=True, history_size=1, force_recovery_mode="cache", replay=True)
moves = gateway.channel("moves:{name}", publish="anyone")  # players send to it, and hear the arena alone


@gateway.on_connect
async def connect(who: SignIn) -> Credentials:
    return Credentials(who.name)


@arena.on_subscribe
async def enter(name: str) -> None:
    """Every arena is open."""


@moves.on_publish
async def move(name: str, wish: Wish, client: Client) -> Move:
    return Move(player=client.user, x=wish.x, y=wish.y)


@arena.live
async def play(name: str) -> AsyncIterator[World]:
    world = await last_picture(name)
    async with gateway.listen(moves.name(name=name)) as wishes:
        ticks = 0
        while True:
            if ticks % 20 == 0:  # presence knows who plays, even after an instance has died
                present = {each.user for each in (await gateway.presence(arena.name(name=name))).values()}
                world.players = {name: world.players.get(name, Player()) for name in sorted(present)}
            for each in wishes.take():
                move = Move.model_validate_json(each.data)
                if player := world.players.get(move.player):
                    player.wish = move
            world.step()
            yield world
            ticks += 1
            await asyncio.sleep(TICK)


async def last_picture(name: str) -> World:
    kept, _ = await gateway.history(arena.name(name=name))
    world = World.model_validate_json(kept[0].data) if kept else World(instance="")
    world.instance = gateway.nodes()[0].name
    return world
