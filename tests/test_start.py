"""What a program waits for when it imports the gateway and starts it."""

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from fastapi import FastAPI
from gateway import ConnectionManager, Gateway

gateway = Gateway()
app = FastAPI()
gateway.run_in(app)
app.include_router(gateway.router)
ConnectionManager(app, "news")

async def main() -> None:
    async with app.router.lifespan_context(app):
        print(*sys.modules)

asyncio.run(main())
"""

COMMAND_LINE = {"typer", "rich", "httpx", "prometheus_client"}
"""What only commands and endpoints need: it takes a tenth of a second and more."""


def test_a_program_waits_for_nothing_that_only_commands_and_endpoints_need() -> None:
    command = [sys.executable, "-c", PROGRAM]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "gateway.program.gateway" in loaded
    assert loaded & COMMAND_LINE == set()
