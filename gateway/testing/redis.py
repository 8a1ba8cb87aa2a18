"""fakeredis in place of a Redis server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from redis import Redis

_PACKAGE = Path(__file__).parents[1]


@contextmanager
def fake_redis() -> Iterator[str]:
    """Serve fakeredis on a port of its own; gives the URL, for ``Kit(app, redis_url=url)``.

    Raises ``ImportError`` without the package ``fakeredis[lua]``.
    """
    try:
        import_module("lupa")  # which fakeredis runs scripts with
        from fakeredis import TcpFakeServer
    except ImportError as error:
        raise ImportError("fake_redis() needs fakeredis: pip install 'fakeredis[lua]'") from error

    server = TcpFakeServer(("127.0.0.1", 0))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        url = f"redis://127.0.0.1:{server.server_address[1]}"
        _teach_scripts(url)
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _teach_scripts(url: str) -> None:
    """Load our scripts: fakeredis hangs up after an error reply, so that NOSCRIPT must not come about."""
    with Redis.from_url(url) as client:
        for path in _PACKAGE.glob("*/lua/*.lua"):
            client.script_load(path.read_text())
