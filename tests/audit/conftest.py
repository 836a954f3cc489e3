"""A database with two networks that have events, and what links and verifies them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.audit.chain import Signing
from yggdrasil.audit.chainer import Chainer
from yggdrasil.audit.heads_file import HeadsFile
from yggdrasil.audit.verifying import Report, read_kept, verify_all
from yggdrasil.db import Database
from yggdrasil.kernel import Network, System
from yggdrasil.keys import Keys

LONG_AGO = timedelta(days=90)


@dataclass
class Stand:
    database: Database
    clock: ManualClock
    ids: SeededIds
    signing: Signing
    file: Path
    networks: list[Network] = field(default_factory=list)

    def chainer(self, *, file: Path | None = None) -> Chainer:
        heads = HeadsFile(file or self.file)
        return Chainer(self.database, self.clock, self.ids, self.signing, heads)

    def event(self, scope: Network, kind: EventKind = EventKind.KEY_CREATED, **more: object) -> Event:
        return Event(
            network_id=scope.network_id,
            event_id=self.ids.uuid(),
            at=self.clock.advance(0.001),
            kind=kind,
            actor=actor_of(scope),
            subject="api_key",
            subject_id=self.ids.uuid(),
            user_id=scope.user_id,
            detail=more,  # type: ignore[arg-type]
        )

    async def record(self, scope: Network, count: int = 1) -> list[UUID]:
        made = [self.event(scope, number=number) for number in range(count)]
        async with self.database.transaction(scope) as tx:
            await record(tx, *made)
        return [one.event_id for one in made]

    async def verify(self, *files: Path) -> Report:
        kept = read_kept(files or ([self.file] if self.file.exists() else []))
        async with self.database.transaction(System("audit-verify")) as tx:
            return await verify_all(tx, self.signing, kept, uses_since=self.clock.now() - LONG_AGO)


@pytest.fixture
async def stand(database: Database, clock: ManualClock, ids: SeededIds, keys: Keys, tmp_path: Path) -> Stand:
    made = Stand(database, clock, ids, Signing(keys.audit_signing), tmp_path / "heads.jsonl")
    # The first count of crossings: one row in the platform's chain.
    await made.chainer().drain()
    made.networks = [await make_network(database, ids, clock) for _ in range(2)]
    return made


Found = Callable[[Report], list[tuple[UUID, int]]]


def found(report: Report) -> list[tuple[UUID, int]]:
    """Where something is bad."""
    return [(one.network_id, one.number) for one in report.bad]
