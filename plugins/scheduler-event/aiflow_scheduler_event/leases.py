"""Leases: who leads and which workers live, by the clock of the database.

A lease only says who should be at work, and lets others notice when he is gone. What keeps two from
being at work at a time is its epoch, which grows whenever the lease is taken: every write of its
holder carries the epoch and is refused when that is no longer the newest.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from aiflow_core.crash import crash_point
from aiflow_core.database import database_ms, reachable
from aiflow_scheduler_event import tables

_LEASE = tables.lease


@dataclass(frozen=True)
class Lease:
    """A lease as it was taken, or found."""

    name: str
    holder: str
    epoch: int


class Leases:
    """The leases of one database. All methods raise `UnavailableError` when it does not answer."""

    def __init__(self, engine: Engine, uri: str) -> None:
        self._engine = engine
        self._uri = uri
        now = database_ms()
        ends = now + bindparam("ttl_ms")
        name = _LEASE.c.name == bindparam("key")
        mine = _LEASE.c.holder == bindparam("me")
        epoch = _LEASE.c.epoch == bindparam("known")
        self._take = (
            update(_LEASE)
            .where(name, mine | (_LEASE.c.expires <= now))
            .values(holder=bindparam("me"), epoch=_LEASE.c.epoch + 1, expires=ends)
        )
        self._make = insert(_LEASE).from_select(
            ["name", "holder", "epoch", "expires"],
            select(bindparam("key"), bindparam("me"), 1, ends),
        )
        self._renew = update(_LEASE).where(name, mine, epoch).values(expires=ends)
        self._release = update(_LEASE).where(name, mine, epoch).values(expires=now)
        self._fence = (
            update(_LEASE)
            .where(name, epoch, _LEASE.c.expires <= now)
            .values(epoch=_LEASE.c.epoch + 1)
        )
        self._expired = select(_LEASE).where(
            _LEASE.c.name.startswith(bindparam("prefix")), _LEASE.c.expires <= now
        )
        self._left = select(_LEASE.c.holder, _LEASE.c.expires - now).where(name)

    def take(self, name: str, holder: str, ttl_ms: int) -> Lease | None:
        """Take the lease for `ttl_ms`, when nobody has it, when it has run out, or when the same
        holder has it: he has been started anew. None while another one has it."""
        facts = {"key": name, "me": holder, "ttl_ms": ttl_ms}
        try:
            crash_point("lease.take.before")
            with reachable(self._uri), self._engine.begin() as connection:
                if connection.execute(self._take, facts).rowcount == 0:
                    if self._epoch(connection, name) is not None:
                        return None
                    connection.execute(self._make, facts)
                epoch = self._epoch(connection, name)
            crash_point("lease.take.after")
        except IntegrityError:
            return None  # another one has made it at the same moment
        assert epoch is not None
        return Lease(name, holder, epoch)

    def renew(self, lease: Lease, ttl_ms: int) -> bool:
        """Keep the lease for `ttl_ms` from now. False: it has been taken, or fenced, meanwhile."""
        facts = {**_facts(lease), "ttl_ms": ttl_ms}
        crash_point("lease.renew.before")
        with reachable(self._uri), self._engine.begin() as connection:
            renewed = connection.execute(self._renew, facts).rowcount == 1
        crash_point("lease.renew.after")
        return renewed

    def release(self, lease: Lease) -> None:
        """Let another one take the lease at once; nothing happens when one has already."""
        crash_point("lease.release.before")
        with reachable(self._uri), self._engine.begin() as connection:
            connection.execute(self._release, _facts(lease))
        crash_point("lease.release.after")

    def fence(self, connection: Connection, lease: Lease) -> bool:
        """Let the holder of a lease that has run out never renew it, within a transaction. False:
        it has been renewed."""
        facts = {"key": lease.name, "known": lease.epoch}
        return connection.execute(self._fence, facts).rowcount == 1

    def expired(self, prefix: str) -> list[Lease]:
        """The leases whose names begin so and that have run out."""
        with reachable(self._uri), self._engine.connect() as connection:
            rows = connection.execute(self._expired, {"prefix": prefix}).all()
        return [Lease(row.name, row.holder, row.epoch) for row in rows]

    def holder(self, name: str) -> tuple[str, int] | None:
        """Who has the lease, and for how many milliseconds yet (negative: it has run out)."""
        with reachable(self._uri), self._engine.connect() as connection:
            row = connection.execute(self._left, {"key": name}).one_or_none()
        return None if row is None else (row[0], row[1])

    def _epoch(self, connection: Connection, name: str) -> int | None:
        epoch: int | None = connection.scalar(select(_LEASE.c.epoch).where(_LEASE.c.name == name))
        return epoch


def _facts(lease: Lease) -> dict[str, Any]:
    return {"key": lease.name, "me": lease.holder, "known": lease.epoch}
