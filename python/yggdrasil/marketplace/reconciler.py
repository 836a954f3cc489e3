"""What a server owes to those that died: heartbeats, and an end for every attempt that nobody will end."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from yggdrasil.db import Database
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import Clock, System
from yggdrasil.marketplace import store, store_nodes, store_run
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.settings import MarketSettings, Node
from yggdrasil.payments.service import Payments


class Reconciler:
    """Idempotent: two servers doing this at once end each attempt exactly once."""

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
        self._clock = clock
        self._node = node
        self._settings = settings or MarketSettings()
        self._records = Records(database, payments, clock, self._settings)

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
        and what is
        past its deadline: hold given back, attempt lost, transaction FAILED, the requester pays nothing.

        Returns how many attempts it ended.
        """
        now = self._clock.now()
        async with self._database.transaction(System("reconciler")) as tx:
            # Leases are told by the database's clock, which several nodes share.
            at = await tx.clock()
            await store_nodes.beat(tx, self._node.node_id, self._node.boot_id, at)
            live = await store_nodes.live_boots(
                tx, at - timedelta(seconds=self._settings.node_silent_seconds)
            )
            await store.delete_expired_results(tx, now)
            found = await store_run.open_attempts(
                tx, live_boots=[*live, self._node.boot_id], deadline_before=now
            )
        ended = 0
        for attempt in found:
            code = "deadline" if attempt.deadline_at < now else "server_lost"
            ended += await self._records.end_open(attempt, code)
        return ended
