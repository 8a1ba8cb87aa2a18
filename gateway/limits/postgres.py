"""What is spent of limits on all nodes, in PostgreSQL and by its clock: one statement for each take."""

import logging
import time
from pathlib import Path

from gateway.errors import BrokerUnavailable
from gateway.limits.base import Budget, Outcome, Rate, outcome
from gateway.postgres.database import Database, within
from gateway.postgres.failures import StatementRefused, text
from gateway.postgres.statements import Script
from gateway.recurring import Recurring

logger = logging.getLogger(__name__)

_SCRIPT = Script(Path(__file__).parent / "sql" / "limits.sql")

CLEANED_EVERY = 1000
"""Takes between two looks for budgets that are whole again."""


class PostgresLimits:
    """Keeps limits over a ``Database``, to be made before that is started; it stays the caller's to close."""

    def __init__(self, database: Database) -> None:
        self.failures = 0
        self._database = database
        self._telling = Recurring(logger, time.monotonic)
        self._takes = 0
        database.install(_SCRIPT)

    async def take(self, name: str, key: str, budget: Budget, cost: int) -> Outcome:
        for word in (name, key):
            text(word)
        if isinstance(budget, Rate):
            args = ("SELECT * FROM gateway_take_rate($1, $2, $3, $4, $5)", budget.interval, budget.burst)
        else:
            args = ("SELECT * FROM gateway_take_window($1, $2, $3, $4, $5)", budget.limit, budget.period)
        statement, first, second = args
        try:
            await self._clean()
            [(allowed, wait, remaining, reset)] = await within(
                self._database.fetch(statement, name, key, first, second, cost)
            )
        except BrokerUnavailable as error:
            self._failed(error)
            raise
        self._telling.over("limits", "rate limits and quotas: PostgreSQL answers again")
        return outcome(allowed, wait, remaining, reset)

    async def _clean(self) -> None:
        """Each take adds a row at most, so that now and then one sees to those that mean nothing any more."""
        self._takes += 1
        if self._takes % CLEANED_EVERY == 0:
            await within(self._database.fetch("SELECT gateway_clean_limits()"))

    def _failed(self, error: BrokerUnavailable) -> None:
        """Count, and warn."""
        self.failures += 1
        detail = error.detail if isinstance(error, StatementRefused) else error.message
        text = "rate limits and quotas cannot be checked until PostgreSQL answers: %s"
        self._telling.happened("limits", text, detail)
