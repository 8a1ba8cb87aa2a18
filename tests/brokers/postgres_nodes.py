"""Brokers of several nodes over one PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.brokers.base import BrokerEvents
from gateway.brokers.postgres import PostgresBroker
from gateway.brokers.rules import Rule
from gateway.config.settings import PostgresSettings
from gateway.postgres.database import Database
from gateway.postgres.owners import INTERVALS, Intervals
from tests.postgres_fixtures import running


@asynccontextmanager
async def postgres_broker(
    settings: PostgresSettings,
    recorder: BrokerEvents,
    name: str = "n1",
    rules: Sequence[Rule] = (),
    intervals: Intervals = INTERVALS,
) -> AsyncIterator[PostgresBroker]:
    """The broker of one node."""
    database = Database(settings)
    broker = PostgresBroker(database, intervals=intervals)
    broker.set_rules(rules)
    async with running(database):
        await broker.start(name, recorder)
        try:
            yield broker
        finally:
            await broker.close()
