"""One backend: how it is called, how many calls at a time, and what is told of it."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

import aiohttp

from gateway.config.masking import masked
from gateway.config.settings import ProxySettings
from gateway.errors import Disconnect, DisconnectCode, Error
from gateway.http_client import open_client
from gateway.metrics import Metrics
from gateway.proxies.envelopes import closing, failing
from gateway.proxies.failures import Failure
from gateway.recurring import Recurring
from gateway.redis.endpoint import tls_context

ACTS = frozenset(("publish", "map_publish", "map_remove", "rpc"))
"""Events whose second telling might do something twice. What else is lost with a connection is asked once more."""

T = TypeVar("T")

Headers = Iterable[tuple[str, str]]


class Backend:
    """Raises ``OSError`` for keys and certificates that cannot be used."""

    def __init__(
        self, name: str, settings: ProxySettings, metrics: Metrics, clock: Callable[[], float], telling: Recurring
    ) -> None:
        self.name = name
        self.settings = settings
        self._metrics = metrics
        self._clock = clock
        self._telling = telling
        self._shown = masked(settings.endpoint).partition("?")[0]
        self._turns = asyncio.Semaphore(settings.concurrency)
        self._waiting = 0
        tls = settings.http.tls
        self._tls = tls_context(tls) if tls.enabled else None
        self._server_name = tls.server_name or None if tls.enabled else None
        self._meanings = {each.status_code: each for each in settings.http.status_to_code_transforms}
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, event: str, body: bytes, headers: Headers, read: Callable[[bytes], T], gone: Callable[[], bool]
    ) -> T:
        """What ``read`` makes of the answer's body.

        Raises `Failure`, as ``read`` may; what else that raises, or what a status stands for; and ``Disconnect`` when
        nobody waits any more.
        """
        try:
            answer = read(await self._in_turn(event, body, headers, gone))
        except Failure as failure:
            self._metrics.proxy_errors[event, self.name, failure.kind] += 1
            text = "proxy %s: %s is not decided by %s: %s"
            self._telling.happened(
                f"{event} {self.name}", text, self.name, event, self._shown, failure.text, reason=failure.kind
            )
            raise
        except (Error, Disconnect):
            if not gone():
                self._decided(event)
            raise
        self._decided(event)
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # — inside —

    def _decided(self, event: str) -> None:
        text = "proxy %s: %s is decided again by %s"
        self._telling.over(f"{event} {self.name}", text, self.name, event, self._shown)

    async def _in_turn(self, event: str, body: bytes, headers: Headers, gone: Callable[[], bool]) -> bytes:
        await self._turn()
        try:
            if gone():
                raise Disconnect(DisconnectCode.CONNECTION_CLOSED)
            began, label = self._clock(), (event, self.name)
            self._metrics.proxy_calls[label] += 1
            try:
                return await self._call(event, body, headers)
            finally:
                self._metrics.proxy_calls[label] -= 1
                self._metrics.proxy_time[label].observe(self._clock() - began)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        """Wait for one, no longer than a call may take, so that who gets it has its whole time."""
        if not self._turns.locked():
            await self._turns.acquire()
            return
        settings = self.settings
        if self._waiting >= settings.queue_size:
            raise Failure("overload", f"{settings.concurrency} calls are under way, and {settings.queue_size} wait")
        self._waiting += 1
        try:
            async with asyncio.timeout(settings.timeout):
                await self._turns.acquire()
        except TimeoutError:
            text = f"{settings.concurrency} calls are under way, and none has ended within {settings.timeout:g} s"
            raise Failure("overload", text) from None
        finally:
            self._waiting -= 1

    async def _call(self, event: str, body: bytes, headers: Headers) -> bytes:
        try:
            async with asyncio.timeout(self.settings.timeout):
                try:
                    status, content = await self._post(body, headers)
                except aiohttp.ServerDisconnectedError:
                    if event in ACTS:
                        raise
                    status, content = await self._post(body, headers)
        except TimeoutError:
            raise Failure("timeout", f"no answer within {self.settings.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self._connect_anew()
            # others say what they have read, which is not for the log
            why = f": {error}" if isinstance(error, OSError) else ""
            raise Failure("connection", f"{type(error).__name__}{why}") from None
        if status != 200:
            raise self._meaning(status)
        return content

    async def _post(self, body: bytes, headers: Headers) -> tuple[int, bytes]:
        request = self._open().post(
            self.settings.endpoint,
            data=body,
            headers=[*headers],
            allow_redirects=False,
            server_hostname=self._server_name,
        )
        async with request as response:
            content, limit = bytearray(), self.settings.response_size_limit
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > limit:
                    raise Failure("size", f"the answer is larger than {limit} bytes")
            return response.status, bytes(content)

    def _meaning(self, status: int) -> Exception:
        """What a status stands for."""
        meaning = self._meanings.get(status)
        if meaning is None:
            return Failure("status", f"the status is {status}, which http.status_to_code_transforms does not have")
        error, disconnect = meaning.to_error, meaning.to_disconnect
        if error.code:
            return failing(error.code, error.message, error.temporary)
        return closing(disconnect.code, disconnect.reason)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_client(self.settings.concurrency, self._tls)
        return self._session

    def _connect_anew(self) -> None:
        """Ask again where it is."""
        if self._session is not None and isinstance(self._session.connector, aiohttp.TCPConnector):
            self._session.connector.clear_dns_cache()
