"""One request to a webhook."""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp

from gateway.apps.signatures import sign_body
from gateway.http_client import open_client
from gateway.metrics import Metrics
from gateway.outbox.base import Event
from gateway.webhooks.targets import Target


class Failed(Exception):  # noqa: N818  as Failure of proxies
    """The receiver has not taken it: a word for counting, and a text for the log, with nothing that was said."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Post:
    """Keeps connections from one request to the next."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float], tick: Callable[[], float]) -> None:
        """``clock`` tells the time of day, ``tick`` measures."""
        self._metrics = metrics
        self._clock = clock
        self._tick = tick
        self._session: aiohttp.ClientSession | None = None

    async def send(self, target: Target, events: Sequence[Event], attempt: int, within: float) -> None:
        """Returns once the receiver has taken the events, in so many seconds. Raises `Failed`."""
        outcome, began = "told", self._tick()
        try:
            await self._send(target, events, attempt, within)
        except Failed as failed:
            outcome = failed.kind
            raise
        finally:
            self._metrics.webhook_requests[outcome] += 1
            self._metrics.webhook_time.observe(self._tick() - began)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(self, target: Target, events: Sequence[Event], attempt: int, within: float) -> None:
        # receivers refuse what is older than five minutes: each attempt has its own time, and so its own signature
        body = b'{"time_ms":%d,"events":[%b]}' % (self._clock() * 1000, b",".join(event.body for event in events))
        try:
            async with asyncio.timeout(within):
                status = await self._post(target.url, body, headers_of(target, body, events, attempt))
        except TimeoutError:
            raise Failed("timeout", f"no answer within {within:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # others say what they have read, or the address, which is not for the log
            why = f": {error}" if isinstance(error, OSError) else ""
            raise Failed("connection", f"{type(error).__name__}{why}") from None
        if not 200 <= status < 300:
            raise Failed("status", f"the status is {status}")

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_client()
        return self._session


def headers_of(target: Target, body: bytes, events: Sequence[Event], attempt: int) -> dict[str, str]:
    """Those of a request. The app's own cannot take the place of ours."""
    key, secret = target.app.settings.key, target.app.settings.secret
    ours = {
        "Content-Type": "application/json",
        "X-Pusher-Key": key,
        "X-Pusher-Signature": sign_body(secret, body),
        "X-Gateway-Delivery": ",".join(event.id for event in events),
        "X-Gateway-Attempt": str(attempt),
    }
    taken = {name.lower() for name in ours}
    return {name: value for name, value in target.headers.items() if name.lower() not in taken} | ours
