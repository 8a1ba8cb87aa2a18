"""The rights that the documentation says are enough, given to a user of real servers."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.redis_server import RedisServer

USER, PASSWORD = "gateway", "narrow"

_PAGE = Path(__file__).parent.parent / "docs" / "redis.md"


def documented_rights() -> tuple[list[str], list[str], list[str]]:
    """Of one server, what a cluster needs besides, and of a sentinel: as ACL SETUSER takes them."""
    blocks = re.findall(r"```\nACL SETUSER gateway (.+?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    server, cluster, sentinel = ([word.replace("PASSWORD", PASSWORD) for word in block.split()] for block in blocks)
    return server, cluster, sentinel


@contextmanager
def narrowed(address: str, servers: Iterable[RedisServer], sentinels: Iterable[RedisServer] = ()) -> Iterator[str]:
    """The address, to be used with the documented rights; afterwards, nothing must have been asked for beyond."""
    rights, besides, of_sentinel = documented_rights()
    if "cluster" in address:
        rights = rights + besides
    given = [*((each, rights) for each in servers), *((each, of_sentinel) for each in sentinels)]
    for server, words in given:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", USER, "reset", *words)
            client.acl_log_reset()
    yield _with_login(address, bool(sentinels))
    for server, _ in given:
        with server.client() as client:
            denied = [(each["reason"], each["context"], each["object"]) for each in client.acl_log()]
            assert denied == [], "the rights in docs/redis.md are not enough"


def _with_login(address: str, sentinels: bool) -> str:
    url = urlsplit(address)
    found = urlunsplit(url._replace(netloc=f"{USER}:{PASSWORD}@{url.netloc.rpartition('@')[2]}"))
    return f"{found}&sentinel_user={USER}&sentinel_password={PASSWORD}" if sentinels else found
