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

SERVE = """
import sys
import gateway.serve.app, gateway.serve.cli

print(*sys.modules)
"""

COMMANDS = {"rich", "httpx", "prometheus_client"}
"""What only some commands and endpoints need: it takes a tenth of a second and more."""


def loaded_by(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_program_waits_for_nothing_that_only_commands_and_endpoints_need() -> None:
    loaded = loaded_by(PROGRAM)
    assert "gateway.program.gateway" in loaded
    assert loaded & {"typer", *COMMANDS} == set()


def test_a_node_waits_for_nothing_that_only_other_commands_need() -> None:
    loaded = loaded_by(SERVE)
    assert "gateway.serve.serving" in loaded
    assert loaded & COMMANDS == set()
