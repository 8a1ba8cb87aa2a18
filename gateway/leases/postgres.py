"""Leases of many nodes, in PostgreSQL and by its clock."""

from pathlib import Path

from gateway.leases.base import KEEP, TTL, Lease, Released, Taken
from gateway.postgres.database import Database, seconds, within
from gateway.postgres.failures import text
from gateway.postgres.statements import Script

_SCRIPT = Script(Path(__file__).parent / "sql" / "leases.sql")
_NEWS = "nreleased"


class PostgresLeases:
    """Keeps leases over a ``Database``, to be made before that is started; it stays the caller's to close."""

    def __init__(self, database: Database, ttl: float = TTL) -> None:
        self.ttl = ttl
        self.on_release: list[Released] = []
        self._database = database
        database.install(_SCRIPT)

    async def start(self) -> None:
        self._database.listen(_NEWS, self._heard)

    async def close(self) -> None:
        self._database.forget(_NEWS)

    async def acquire(self, name: str, owner: str, anew: bool = False) -> Lease | Taken:
        statement = "SELECT * FROM gateway_acquire($1, $2, $3, $4, $5)"
        args = (text(name), text(owner), seconds(self.ttl), seconds(KEEP), anew)
        [(given, taken)] = await within(self._database.fetch(statement, *args))
        return Lease(name, given, owner) if taken is None else Taken(max(0.0, taken.total_seconds()))

    async def renew(self, lease: Lease) -> bool:
        statement = "SELECT gateway_renew_lease($1, $2, $3)"
        [(held,)] = await within(self._database.fetch(statement, lease.name, lease.fence, seconds(self.ttl)))
        return bool(held)

    async def release(self, lease: Lease) -> None:
        await within(self._database.fetch("SELECT gateway_release($1, $2)", lease.name, lease.fence))

    async def finish(self, lease: Lease) -> None:
        statement = "SELECT gateway_finish($1, $2, $3)"
        await within(self._database.fetch(statement, lease.name, lease.fence, seconds(KEEP)))

    def _heard(self, name: bytes) -> None:
        for released in self.on_release:
            released(name.decode())
