"""A gateway that counts its own objects: ``python -m bench.counted PORT``. What `bench.turnover` measures."""

import gc
import sys
from typing import Any

from fastapi import FastAPI

from gateway.config.settings import Settings
from gateway.serve.app import create_app
from gateway.serve.listening import Listener, bind
from gateway.serve.server import run_server
from gateway.session import Session

SETTINGS: dict[str, Any] = {
    "client": {"insecure": True},
    "shutdown": {"grace": 0},
    "channel": {
        "without_namespace": {"presence": True, "history_size": 10, "history_ttl": 300, "force_recovery": True}
    },
}


def counting(settings: Settings) -> FastAPI:
    app = create_app(settings)

    @app.get("/objects")
    async def objects() -> dict[str, int]:
        """How many sessions there are, and of how many one can be connected still."""
        sessions = [each for each in gc.get_objects() if isinstance(each, Session)]
        return {"sessions": len(sessions), "open": sum(not each.closed for each in sessions)}

    return app


def main() -> None:
    with bind("127.0.0.1", int(sys.argv[1])) as sock:
        run_server(Settings.model_validate(SETTINGS), counting, [Listener(sock)], lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
