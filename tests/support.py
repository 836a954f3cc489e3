"""What tests share: a clock that moves when told, ids from a seed, a network to act in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from yggdrasil.db import Database
from yggdrasil.db.address import Login, connect
from yggdrasil.kernel import CURRENCY, Clock, Identity, IdSource, Network, Role

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Starts 2026-01-01T00:00Z; wall and monotonic time move together."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> datetime:
        """Move forward."""
        if seconds < 0:
            raise ValueError("advance: time does not go back; use set")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self._now

    def set(self, now: datetime) -> datetime:
        """Set the wall clock, also backwards as machines do; monotonic never goes back."""
        self._monotonic += max(0.0, (now - self._now).total_seconds())
        self._now = now
        return self._now


class SeededIds:
    """The same ids and secrets for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)

    def restart(self, seed: int) -> None:
        """The ids of another seed from now on; `seed` stays what the test began with."""
        self._random.seed(seed)

    def uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def secret(self, length: int) -> bytes:
        return self._random.randbytes(length)


async def make_network(
    database: Database, ids: IdSource, clock: Clock, *, role: Role = Role.OWNER, home: UUID | None = None
) -> Network:
    """A network with one member, made the way registration makes it; returns the member's scope.

    `home`: join this network with `role` instead of founding one.
    """
    network_id, user_id, at = home or ids.uuid(), ids.uuid(), clock.now()
    async with database.transaction(Identity(network_id, user_id)) as tx:
        if home is None:
            await tx.execute(
                "INSERT INTO tenant.networks (network_id, created_at, currency) VALUES ($1, $2, $3)",
                network_id,
                at,
                CURRENCY,
            )
        await tx.execute(
            "INSERT INTO identity.accounts (user_id, home_network_id, status, epoch, created_at)"
            " VALUES ($1, $2, 'active', 0, $3)",
            user_id,
            network_id,
            at,
        )
        await tx.execute(
            "INSERT INTO identity.memberships (network_id, user_id, role, created_at)"
            " VALUES ($1, $2, $3, $4)",
            network_id,
            user_id,
            role.value,
            at,
        )
    return Network(network_id, user_id, role)


async def as_superuser(database: Database, admin: Login, sql: str, *args: object) -> list[dict[str, object]]:
    """Look or meddle past all policies: for arranging and for checking what really is in a table."""
    address = next(iter(database.pools.values())).address
    connection = await connect(address, admin)
    try:
        return [dict(row) for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()
