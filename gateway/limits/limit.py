"""Limits as FastAPI dependencies: the same in an HTTP route, a WebSocket route and a channel's handler."""

from collections.abc import Callable
from inspect import Parameter, Signature
from math import ceil

from fastapi import HTTPException
from fastapi.params import Depends
from starlette.requests import HTTPConnection

from gateway.errors import BrokerUnavailable
from gateway.limits.base import Budget, LimitStore, Outcome, Window, parse_rate, parse_window
from gateway.limits.caller import caller

Key = Callable[[HTTPConnection], str] | Depends
"""Whose budget it is: a function of the connection, or ``Depends(...)`` on what gives the key."""


class _Limit:
    """What rate limits and quotas have in common."""

    def __init__(
        self, budget: Budget, store: Callable[[], LimitStore], key: Key | None, name: str, fail_open: bool
    ) -> None:
        if not (name.isascii() and name.isprintable()) or '"' in name or "\\" in name:
            raise ValueError(f'name={name!r} must be printable ASCII without quotes, for example name="uploads"')
        self.name = name
        self._budget = budget
        self._store = store
        self._key = caller if key is None or isinstance(key, Depends) else key
        self._fail_open = fail_open
        # What FastAPI solves: without this, it would look for the key in the query string.
        parameters = [Parameter("connection", Parameter.POSITIONAL_OR_KEYWORD, annotation=HTTPConnection)]
        if isinstance(key, Depends):
            parameters.append(Parameter("key", Parameter.KEYWORD_ONLY, default=key, annotation=str))
        self.__signature__ = Signature(parameters)

    async def __call__(self, connection: HTTPConnection, *, key: str | None = None) -> None:
        """The dependency. FastAPI calls it once per request or event, however often it is named there.

        A key of ``None`` stands for the ``caller``.
        """
        await self.check(self._key(connection) if key is None else str(key))

    async def check(self, key: str, cost: int = 1) -> Outcome:
        """Spend ``cost`` of the budget of ``key``, by hand. Raises ``HTTPException`` 429 if that is not there.

        ``caller(connection)`` gives the key of a limit declared without one. A cost above the whole budget is
        refused for ever. While the store is away all is granted, or, with ``fail_open=False``, refused with 503.
        """
        if cost < 1:
            raise ValueError(f"cost={cost!r} must be at least 1, for example check(key, cost=2)")
        most = self._budget.most
        try:
            # Whatever a client may make of the cost, the arithmetic stays within bounds.
            outcome = await self._store().take(self.name, key, self._budget, min(cost, most + 1))
        except BrokerUnavailable:
            if not self._fail_open:
                raise HTTPException(503, "limits cannot be checked, try again", {"Retry-After": "1"}) from None
            return Outcome(True, 0.0, most, 0.0)
        if not outcome.allowed:
            raise HTTPException(429, "too many requests", self._headers(outcome))
        return outcome

    def _headers(self, outcome: Outcome) -> dict[str, str]:
        return {"Retry-After": str(ceil(outcome.retry_after))}


class RateLimit(_Limit):
    """``RateLimit("10/second", burst=20, store=…)``: a steady rate, after a burst.

    The bucket holds ``burst`` (else the number of the rate) and refills one by one. The period is ``second``,
    ``minute``, ``hour``, ``day`` or a duration: ``"5/10s"``. Limits of the same ``name`` (by default the text of
    the rate) in the same store share their budgets, on all nodes and after a restart: name them apart.
    """

    def __init__(
        self,
        spec: str,
        *,
        store: Callable[[], LimitStore],
        burst: int | None = None,
        key: Key | None = None,
        name: str = "",
        fail_open: bool = True,
    ) -> None:
        super().__init__(parse_rate(spec, burst), store, key, name or spec.strip(), fail_open)


class Quota(_Limit):
    """``Quota("1000/day", store=…)``: so many in each period, which begins anew at once for everybody.

    Periods are counted from the Unix epoch: a day begins at midnight UTC. The rest is as in ``RateLimit``. A
    refusal carries ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10).
    """

    def __init__(
        self,
        spec: str,
        *,
        store: Callable[[], LimitStore],
        key: Key | None = None,
        name: str = "",
        fail_open: bool = True,
    ) -> None:
        self._window: Window = parse_window(spec)
        super().__init__(self._window, store, key, name or spec.strip(), fail_open)

    def _headers(self, outcome: Outcome) -> dict[str, str]:
        window = self._window
        return {
            **super()._headers(outcome),
            "RateLimit-Policy": f'"{self.name}";q={window.limit};w={ceil(window.period / 1e6)}',
            "RateLimit": f'"{self.name}";r={outcome.remaining};t={ceil(outcome.reset)}',
        }


class Limits:
    """The limits of one gateway, no two of the same name. ``store`` is asked for at each request.

    A name is all that tells budgets apart, so that it must be chosen where two limits have the same text.
    """

    def __init__(self, store: Callable[[], LimitStore]) -> None:
        self._store = store
        self.declared: list[RateLimit | Quota] = []

    def rate_limit(
        self, spec: str, *, burst: int | None = None, key: Key | None = None, name: str = "", fail_open: bool = True
    ) -> RateLimit:
        """Declare a steady rate after a burst, as ``RateLimit`` says. Raises ``ValueError``."""
        limit = RateLimit(spec, store=self._store, burst=burst, key=key, name=name, fail_open=fail_open)
        self._claim(limit)
        return limit

    def quota(self, spec: str, *, key: Key | None = None, name: str = "", fail_open: bool = True) -> Quota:
        """Declare so many in each period, as ``Quota`` says. Raises ``ValueError``."""
        limit = Quota(spec, store=self._store, key=key, name=name, fail_open=fail_open)
        self._claim(limit)
        return limit

    def _claim(self, limit: RateLimit | Quota) -> None:
        if any(each.name == limit.name for each in self.declared):
            raise ValueError(
                f'a limit named "{limit.name}" is declared already, and the two would share one budget;'
                f' give this one a name of its own, for example rate_limit("10/second", name="uploads")'
            )
        self.declared.append(limit)
