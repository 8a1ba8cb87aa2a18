"""The metrics of all processes of one host, whichever of them is asked.

Processes that share a port are behind one address, and the kernel chooses who answers. So whoever is asked asks the
others. They find each other in a directory, where each has a Unix socket of its own: who connects is told, and the
connection ends. A process that has died is not there any more; its series end, for each carries the id of its node.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import msgspec
from msgspec import Struct

from gateway.core.node import Node
from gateway.errors import SettingsError
from gateway.web.exposition import Family, Reading, read
from gateway.web.process import read_process

P = ParamSpec("P")
T = TypeVar("T")


class Host(Struct, frozen=True):
    """A metric of a host, which has no ``node``."""

    name: str
    help: str
    kind: Literal["gauge"] = "gauge"
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        return self.name

    def family_of(self, value: int) -> Family:
        return Family(self.name, self.kind, self.help, [(self.name, {}, value)])


PATIENCE = 1.0
"""Seconds that the others have to answer: a scrape has ten by default."""

SUFFIX = ".sock"

HOST_DEFINITIONS = (
    Host("gateway_workers", "Processes of this host that share a port, as far as they are there"),
    Host("gateway_workers_silent", "Those of them that have not told their metrics in time"),
)

_decode = msgspec.msgpack.Decoder(list[Family]).decode

log = logging.getLogger(__name__)


_thread = ThreadPoolExecutor(1, "metrics")


def apart(call: Callable[P, T], *args: P.args, **options: P.kwargs) -> Awaitable[T]:
    """Call it in a thread that is for metrics alone: whatever a program's threads wait for, these can be seen."""
    return asyncio.get_running_loop().run_in_executor(_thread, partial(call, *args, **options))


class Answers(NamedTuple):
    """What the others have told, and how many of them have not, though they are there."""

    families: list[Family]
    present: int
    silent: int


async def read_node(node: Node) -> list[Family]:
    """The metrics of one node."""
    process = await apart(read_process)
    return read(node.uid, Reading(node.metrics, node.gauges(), process))


async def read_all(node: Node, directory: str = "") -> list[Family]:
    """Those of the node, and of all others that tell theirs in the directory."""
    own = await read_node(node)
    others = await _ask_all(Path(directory), node.uid) if directory else Answers([], 0, 0)
    counts = (1 + others.present, others.silent)
    host = [each.family_of(count) for each, count in zip(HOST_DEFINITIONS, counts, strict=True)]
    return [*host, *own, *others.families]


@asynccontextmanager
async def telling(node: Node, directory: str) -> AsyncIterator[None]:
    """Tell the node's metrics to whoever asks, in the directory, which is made if there is none.

    Raises `SettingsError` if that cannot be.
    """
    path = _socket_of(Path(directory), node.uid)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = _listen(path)
    except OSError as error:
        raise SettingsError(
            f'prometheus.directory = "{directory}" cannot be used: {error.strerror or error}; name one where the '
            'gateway may write, for example "/run/gateway"'
        ) from error

    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # who has asked has gone
            writer.write(msgspec.msgpack.encode(await read_node(node)))
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(tell, sock=listener)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()


def _socket_of(directory: Path, uid: str) -> Path:
    return directory / (uid[:16] + SUFFIX)


def _listen(path: Path) -> socket.socket:
    """A socket that is seen only once it listens: who finds one that does not takes its process for dead."""
    hidden = path.with_suffix("")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(hidden))
        listener.listen()
        hidden.rename(path)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def _ask_all(directory: Path, uid: str) -> Answers:
    told = await asyncio.gather(*(_ask(path) for path in _others(directory, _socket_of(directory, uid))))
    present = [each for each in told if each is not None]
    return Answers([family for each in present for family in each], len(present), present.count([]))


def _others(directory: Path, own: Path) -> list[Path]:
    return [path for path in directory.glob("*" + SUFFIX) if path != own]


async def _ask(path: Path) -> list[Family] | None:
    """What a process tells, nothing if it is silent; None if there is none."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read())
            finally:
                writer.close()
    except FileNotFoundError:
        return None
    except ConnectionRefusedError:  # it was killed
        _forget(path)
        return None
    except (OSError, TimeoutError, msgspec.DecodeError) as error:  # which the answer counts, time and again
        log.debug("a process has not told its metrics (%s): %r", path.stem, error)
        return []


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
