"""What a server owes to those that died: heartbeats, and an end for every attempt that nobody will end."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.db import Database, Tx
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import Clock, System
from yggdrasil.marketplace import store, store_nodes, store_queue, store_run
from yggdrasil.marketplace.recalling import RECALL_DAYS
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.settings import MarketSettings, Node
from yggdrasil.payments.service import Payments

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger("yggdrasil.marketplace")


class Reconciler:
    """Idempotent: two servers doing this at once end each attempt, and each hold, exactly once."""

    def __init__(
        self,
        database: Database,
        *,
        payments: Payments,
        clock: Clock,
        node: Node,
        settings: MarketSettings | None = None,
    ) -> None:
        self._database = database
        self._payments = payments
        self._clock = clock
        self._node = node
        self._settings = settings or MarketSettings()
        self._records = Records(database, payments, clock, self._settings)
        self._beat_at: float | None = None
        self._spared_until = 0.0
        self.last_round: tuple[datetime, int] | None = None
        """When a round was last finished, and how much it ended."""

    async def start(self) -> None:
        """The first round: this boot lives, and what an earlier boot of this node left behind ends now."""
        await self.run_once()

    async def stop(self) -> None:
        """Take this boot off the list, so that nobody waits for its silence."""
        with contextlib.suppress(Unavailable):
            async with self._database.transaction(System("reconciler")) as tx:
                await store_nodes.leave(tx, self._node.boot_id)

    async def run_once(self) -> int:
        """One round: say that this boot lives, drop expired results, and end what dead boots left behind
        and what is past its deadline: attempt lost, transaction FAILED, hold given back, the requester pays
        nothing; what waited is FAILED. Then the same for every hold that no open attempt answers for,
        whatever left it there.

        Returns how many it ended. One that cannot be ended is logged and keeps nothing from the others.
        """
        now = self._clock.now()
        async with self._database.transaction(System("reconciler")) as tx:
            await store_nodes.beat(tx, self._node.node_id, self._node.boot_id, await tx.clock())
            self._note_beat()
            await store.delete_expired_results(tx, now)
            await store_nodes.delete_canaries(tx, now - timedelta(days=RECALL_DAYS))
            live = await self._live_boots(tx)
            found = await store_run.open_attempts(tx, live_boots=live, deadline_before=now)
            waiting = await store_queue.stale(tx, live_boots=live, deadline_before=now)
            # Asked again: a boot may have come up, and begun something, between the questions before.
            live = await self._live_boots(tx)
        attempts = [one for one in found if one.deadline_at < now or one.boot_id not in live]
        ended = 0
        for attempt in attempts:
            code = "deadline" if attempt.deadline_at < now else "server_lost"
            ended += await self._end(self._records.end_open(attempt, code), attempt.attempt_id)
        for one in waiting:
            late = one.deadline_at < now
            if late or one.boot_id not in live:
                code = "deadline" if late else "server_lost"
                left_it = self._records.leave(one.network_id, one.transaction_id, State.FAILED, code)
                ended += await self._end(left_it, one.transaction_id)
        # Those of the attempts above are gone by now: what is found has none.
        async with self._database.transaction(System("reconciler")) as tx:
            left = await self._payments.stale_holds(tx, live_boots=live, deadline_before=now)
            live = await self._live_boots(tx)
        holds = [one for one in left if one.deadline_at < now or one.owner_boot not in live]
        for hold in holds:
            ended += await self._end(self._records.end_hold(hold.network_id, hold.hold_id), hold.hold_id)
        self.last_round = (now, ended)
        return ended

    def _note_beat(self) -> None:
        """Where this boot could not beat for long, the others could not either: the database was away. They
        get the time to come back, and to settle what they were about to, before their silence counts."""
        at, before, self._beat_at = self._clock.monotonic(), self._beat_at, self._clock.monotonic()
        if before is not None and at - before > self._settings.node_silent_seconds / 2:
            self._spared_until = at + self._settings.node_silent_seconds

    async def _live_boots(self, tx: Tx) -> list[UUID]:
        """Leases are told by the database's clock, which several nodes share."""
        silent_before = await tx.clock() - timedelta(seconds=self._settings.node_silent_seconds)
        if self._clock.monotonic() < self._spared_until:
            silent_before = _EVER
        return [*await store_nodes.live_boots(tx, silent_before), self._node.boot_id]

    async def _end(self, ending: Awaitable[bool], what: UUID) -> bool:
        """Unavailable ends the round: the next one goes on."""
        try:
            return await ending
        except Unavailable:
            raise
        except Exception:
            _log.exception("cannot be reconciled", id=str(what))
            return False
