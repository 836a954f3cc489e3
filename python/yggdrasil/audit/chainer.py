"""The job that links events to their network's chain, signs where it ends, and keeps the heads elsewhere.

Every node runs it; an advisory lock lets one link at a time, and the key of the links lets no second row have
a number if it ever failed. A round is one transaction: after a kill at any place it is done or was never
begun. It never extends a chain whose end is not signed, nor one that has become shorter: what somebody put
there would otherwise be signed with the next row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from yggdrasil.audit import store
from yggdrasil.audit.chain import FORMAT, Head, Row, Signing, genesis, row_hash, signed
from yggdrasil.audit.events import SYSTEM, Event, EventKind
from yggdrasil.audit.heads_file import HeadsFile
from yggdrasil.db import Database, Tx
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, IdSource, System
from yggdrasil.observe import AUDIT_BROKEN, AUDIT_LINKED, AUDIT_UNWRITTEN

ROWS_MAX: Final = 1_000
"""Of a round."""
IDLE_SECONDS: Final = 15.0
"""How often a node looks for what others recorded, and died before they linked it."""
AFTER_SECONDS: Final = 3.0
"""For how long it looks again after something was recorded here: it may not have been committed at once."""
UNWRITTEN_MAX: Final = 10_000
"""News that wait for a database that is away; what comes then is in the log and the metrics alone."""
OWED_MAX: Final = 10_000
"""Heads that wait for a file that cannot be written; the next start fetches those beyond."""
REMEMBERED_MAX: Final = 10_000
CROSSED_SECONDS: Final = 600
CROSSED_LATE_SECONDS: Final = 120
"""Uses of System are counted when they are this old: all of them are committed by then."""
JOBS_MAX: Final = 40
_log = structlog.get_logger("yggdrasil.audit")


class Chainer:
    """`run_once` is a round; call it every second. `news()` are events that nobody's transaction wrote."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        signing: Signing,
        file: HeadsFile | None = None,
        *,
        news: Callable[[], list[Event]] = list,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._signing = signing
        self._file = file
        self._news = news
        self._unwritten: list[Event] = []
        self._tips: OrderedDict[UUID, tuple[int, bytes]] = OrderedDict()
        self._owed: list[Head] = []
        self._caught_up = False
        self._seen = -1
        self._until = self._idle_at = clock.monotonic()
        self.broken: dict[UUID, str] = {}
        """Chains that are not extended, and why."""

    async def run_once(self) -> int:
        """Link what was recorded, if there may be something; rows linked."""
        now = self._clock.monotonic()
        self._unwritten = (self._unwritten + self._news())[:UNWRITTEN_MAX]
        if self._seen != store.recorded.count:
            self._seen = store.recorded.count
            self._until = now + AFTER_SECONDS
        if not self._unwritten and now > self._until and now < self._idle_at:
            return 0
        self._idle_at = now + IDLE_SECONDS
        return await self.drain()

    async def drain(self) -> int:
        """Link everything that waits now; rows linked. At a stop, and for commands."""
        linked, more = 0, True
        while more:
            made, more = await self._round()
            linked += made
        return linked

    async def close(self, last: list[Event]) -> None:
        """At a stop: the last news, and everything that waits."""
        self._unwritten += last
        with contextlib.suppress(Unavailable):
            await self.drain()

    async def _round(self) -> tuple[int, bool]:
        """Rows linked, and whether there may be more to do."""
        if self._file is not None and not self._caught_up:
            self._caught_up = await self._catch_up(self._file)
        news = len(self._unwritten)
        rows: list[Row] = []
        heads: list[Head] = []
        async with self._database.transaction(System(store.JOB)) as tx:
            await store.record(tx, *self._unwritten[:news])
            if await store.lock(tx):
                await self._count_crossings(tx)
                rows, heads = await self._link(tx)
        del self._unwritten[:news]
        for head in heads:
            self._remember(head)
        AUDIT_LINKED.inc(len(rows))
        if self._file is not None:
            # After the commit: a head that never was must not be kept. What cannot be written is tried again.
            self._owed = (self._owed + heads)[-OWED_MAX:]
            if await self._keep(self._file, self._owed):
                self._owed = []
        return len(rows), len(rows) == ROWS_MAX

    async def _link(self, tx: Tx) -> tuple[list[Row], list[Head]]:
        waiting = await store.select_waiting(tx, list(self.broken), ROWS_MAX)
        if not waiting:
            return [], []
        networks = sorted({row["network_id"] for row in waiting})
        tips = await store.select_tips(tx, networks)
        ends: dict[UUID, tuple[int, bytes]] = {}
        for network_id in networks:
            tip = tips.get(network_id)
            why = self._unsound(network_id, tip)
            if why is None:
                ends[network_id] = (0, genesis(network_id)) if tip is None else (tip.number, tip.hash)
            else:
                self._refuse(network_id, why)
        rows: list[Row] = []
        for event in waiting:
            end = ends.get(event["network_id"])
            if end is None:
                continue
            row: dict[str, Any] = {**event, "number": end[0] + 1, "format": FORMAT, "previous_hash": end[1]}
            row["hash"] = row_hash(row)
            ends[event["network_id"]] = (row["number"], row["hash"])
            rows.append(row)
        await store.insert_links(tx, rows)
        at = self._clock.now()
        signed_now = [
            self._signing.sign(network_id, *ends[network_id], at)
            for network_id in sorted({row["network_id"] for row in rows})
        ]
        await store.insert_heads(tx, signed_now)
        return rows, signed_now

    def _unsound(self, network_id: UUID, tip: store.Tip | None) -> str | None:
        """Why a chain must not be extended."""
        number, digest = self._tips.get(network_id, (0, b""))
        if tip is None:
            return "its rows are gone" if number else None
        if tip.head is None or tip.head.number != tip.number or tip.head.hash != tip.hash:
            return "its last row is not signed"
        if tip.head.network_id != network_id or not signed(tip.head, self._signing.public):
            return "its last head is not signed by a key of ours"
        if tip.number < number or (tip.number == number and tip.hash != digest):
            return "it is not the chain that was here before"
        return None

    def _refuse(self, network_id: UUID, why: str) -> None:
        self.broken[network_id] = why
        AUDIT_BROKEN.set(len(self.broken))
        # The network is not named here: `yggdrasil audit verify` says which, to those who may know.
        _log.error("audit_chain_broken", why=why)

    def _remember(self, head: Head) -> None:
        self._tips[head.network_id] = (head.number, head.hash)
        self._tips.move_to_end(head.network_id)
        while len(self._tips) > REMEMBERED_MAX:
            self._tips.popitem(last=False)

    async def _count_crossings(self, tx: Tx) -> None:
        """How often each job read across networks, as one event of the platform for every ten minutes."""
        until = self._clock.now().replace(second=0, microsecond=0) - timedelta(seconds=CROSSED_LATE_SECONDS)
        last = await store.select_crossed_to(tx, PLATFORM_NETWORK, EventKind.SCOPE_CROSSED)
        every = timedelta(seconds=CROSSED_SECONDS)
        since = until - every if last is None else datetime.fromisoformat(last)
        if until - since < every:
            return
        uses = await store.count_uses(tx, since, until, JOBS_MAX)
        event = Event(
            network_id=PLATFORM_NETWORK,
            event_id=self._ids.uuid(),
            at=self._clock.now(),
            kind=EventKind.SCOPE_CROSSED,
            actor=SYSTEM,
            subject="system",
            detail={"since": _utc(since), "to": _utc(until), "uses": uses},
        )
        await store.record(tx, event)

    async def _catch_up(self, file: HeadsFile) -> bool:
        """What a crash kept from the file, or all if there is none yet. False if it could not be written."""
        try:
            last = await asyncio.to_thread(file.last)
        except OSError as error:
            return self._unwritable(error)
        place = None if last is None else (last.at, last.network_id, last.number)
        while True:
            async with self._database.transaction(System(store.JOB)) as tx:
                heads = await store.select_heads_after(tx, place, ROWS_MAX)
            if not await self._keep(file, heads):
                return False
            if len(heads) < ROWS_MAX:
                return True
            place = (heads[-1].at, heads[-1].network_id, heads[-1].number)

    async def _keep(self, file: HeadsFile, heads: list[Head]) -> bool:
        if not heads:
            return True
        try:
            await asyncio.to_thread(file.append, heads)
        except OSError as error:
            return self._unwritable(error)
        return True

    def _unwritable(self, error: OSError) -> bool:
        AUDIT_UNWRITTEN.inc()
        _log.error("audit_heads_not_written", error=error.strerror)
        return False


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
