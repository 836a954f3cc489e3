"""One node's money path on a database of its own, and a look at all that it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from tests.payments.auditor import audit_rows
from tests.payments.support import CENT, Money, Node
from tests.support import START, ManualClock, SeededIds, make_network
from yggdrasil.db import Database
from yggdrasil.db.address import Login, connect
from yggdrasil.kernel import PLATFORM_NETWORK, Network
from yggdrasil.marketplace.batches import Batcher
from yggdrasil.marketplace.reconciler import Reconciler
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.store_queue import Owner, Wait
from yggdrasil.marketplace.store_run import NewAttempt, NewTransaction
from yggdrasil.users import store_keys
from yggdrasil.users.store_keys import KeyTerms

Rate = tuple[int, int, str]
SETTINGS = MarketSettings(settle_backoff_seconds=0.01)
EMPTIED = (
    "tenant.results",
    "tenant.transactions",
    "platform.attempts",
    "platform.queued",
    "tenant.holds",
    "tenant.entries",
    "tenant.balances",
    "tenant.key_spend",
    "tenant.payments",
)


class Stand:
    """Networks to trade, the records of one node, and a superuser who sees everything."""

    def __init__(self, database: Database, clock: ManualClock, ids: SeededIds, admin: Login) -> None:
        self.clock, self.ids, self._admin = clock, ids, admin
        self.money = Money(database, clock, ids)
        self.scopes: list[Network] = []
        self.keys: list[list[tuple[UUID, int | None, int | None, bool]]] = []
        """Of each network: (key, limit in all, limit of a month, whether it works)."""
        self.rates: dict[UUID, Rate] = {}
        self.payers: dict[UUID, UUID] = {}
        self._methods: dict[UUID, UUID] = {}
        self._eye: asyncpg.Connection | None = None
        self.restart()

    def restart(self) -> None:
        """Another process: what the one before had begun is not its own."""
        self.node = Node(UUID(int=7), self.ids.uuid())
        self.money = Money(self.money.database, self.clock, self.ids, node=self.node)
        self.records = Records(self.money.database, self.money.payments, self.clock, SETTINGS)

    async def look_anew(self) -> None:
        """A superuser's connection: the first, or the next after the server was gone."""
        self._eye = await connect(self.money.database.pools["ygg_settle"].address, self._admin)

    async def open(self, networks: int) -> None:
        await self.look_anew()
        for number in range(networks):
            if number == networks - 1:
                self.scopes.append(await make_network(self.money.database, self.ids, self.clock))
            else:
                self.scopes.append(await self.money.network())
                (method,) = await self.money.payments.list_methods(self.scopes[-1])
                self._methods[self.scopes[-1].network_id] = method.method_id
            self.keys.append([])
            if number < 2:
                await self._make_keys(number)

    async def _make_keys(self, number: int) -> None:
        scope = self.scopes[number]
        for total, month, works in ((25 * CENT, None, True), (None, 12 * CENT, True), (None, None, False)):
            key_id = self.ids.uuid()
            ended = None if works else self.clock.now() - timedelta(seconds=1)
            terms = KeyTerms(spend_limit_microcents=total, monthly_limit_microcents=month, expires_at=ended)
            async with self.money.database.transaction(scope) as tx:
                await store_keys.insert_key(
                    tx, scope.network_id, key_id, scope.user_id, "k", bytes(32), self.clock.now(), terms
                )
            self.keys[number].append((key_id, total, month, works))

    async def close(self) -> None:
        if self._eye is not None:
            await self._eye.close()

    async def look(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Past all policies."""
        assert self._eye is not None
        return await self._eye.fetch(sql, *args)  # type: ignore[no-any-return]

    async def execute(self, sql: str) -> None:
        """A statement without an answer, past all policies."""
        assert self._eye is not None
        await self._eye.execute(sql)

    async def plant(self, function: str, right: str, wrong: str) -> None:
        """A mistake in a function of this database."""
        (row,) = await self.look("SELECT pg_get_functiondef(('platform.' || $1)::regproc) AS text", function)
        assert row["text"].count(right) == 1, "the function has changed: plant the mistake anew"
        await self.execute(row["text"].replace(right, wrong))

    async def clear(self, seed: int) -> None:
        """Empty books, and the same ids and times for the same seed: one broken life must not break those
        after it, and is lived again as it was."""
        for table in (*EMPTIED, "platform.sandbox_charges", "platform.nodes", "platform.waits"):
            await self.look(f"DELETE FROM {table}")
        self.rates.clear()
        self.ids.restart(seed)
        self.clock.set(START)
        self.restart()

    async def topup(self, scope: Network, cents: int) -> None:
        made = await self.money.payments.top_up(
            scope,
            method_id=self._methods[scope.network_id],
            amount_cents=cents,
            idempotency_key=str(self.ids.uuid()),
        )
        assert made.state == "succeeded"

    def request(
        self, payer: Network, seller: Network | None, rate: Rate, *, free: bool = False
    ) -> tuple[NewTransaction, NewAttempt]:
        """A request to an offer of `seller`; None: the company's own."""
        uuid, now = self.ids.uuid, self.clock.now()
        network = PLATFORM_NETWORK if seller is None else seller.network_id
        scope = "own" if network == payer.network_id else "market"
        cents, unit, rounding = rate
        offer = Offer(
            network,
            uuid(),
            uuid(),
            uuid(),
            uuid(),
            scope,
            "active",
            "m",
            "chat",
            cents,
            unit,
            rounding,  # type: ignore[arg-type]
            100,
            4,
            "Alfheim",
            1,
            0,
            0,
        )
        new = NewTransaction(
            payer.network_id,
            uuid(),
            payer.user_id,
            None,
            None,
            scope,
            "chat",
            "m",
            None,
            now,  # type: ignore[arg-type]
        )
        mine = scope == "own"
        attempt = NewAttempt(
            uuid(),
            1,
            None if mine or free else uuid(),
            None if mine else uuid(),
            offer,
            1200,
            "{}",
            self.node.node_id,
            self.node.boot_id,
            now,
            now + timedelta(seconds=60),
        )
        self.rates[attempt.attempt_id] = rate
        self.payers[attempt.attempt_id] = payer.network_id
        return new, attempt

    async def enqueue(self, new: NewTransaction) -> None:
        owner = Owner(self.node.node_id, self.node.boot_id, self.clock.now() + timedelta(seconds=60))
        wait = Wait(1, "busy", (), 0, 0, 0, self.clock.now(), owner.deadline_at)
        await self.records.enqueue(new, owner, 0, wait)

    async def send(self, batcher: Batcher[Any], items: list[Any]) -> list[tuple[Any, str | BaseException]]:
        """As one batch of the batcher, with all that it does of one; in the order in which it goes."""
        loop = asyncio.get_running_loop()
        batch = [(item, loop.create_future()) for item in items]
        await batcher._send(batch)
        assert not batcher._waiting
        assert not batcher._aside
        return [(item, await _outcome(answer)) for item, answer in batch]

    async def submit_all(self, batcher: Batcher[Any], items: Sequence[Any]) -> list[str | BaseException]:
        return await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)

    async def call(self, function: str, items: Sequence[Any]) -> list[str | BaseException]:
        """The function by itself. An item alone may be answered by its error, several never."""
        try:
            return [*await self.money.database.call(function, [item.row() for item in items])]
        except asyncpg.PostgresError as error:
            if len(items) > 1:
                raise
            return [error]

    async def reconcile(self) -> int:
        made = Reconciler(
            self.money.database,
            payments=self.money.payments,
            clock=self.clock,
            node=self.node,
            settings=SETTINGS,  # type: ignore[arg-type]
        )
        return await made.run_once()

    async def seen(self) -> dict[str, Any]:
        """All that the money path wrote; AssertionError if the rows alone break a rule of the books."""
        rows = {name: await self.look(f"SELECT * FROM {name}") for name in EMPTIED}
        entries, holds = rows["tenant.entries"], rows["tenant.holds"]
        audit_rows(entries, holds, rows["tenant.balances"], rows["tenant.payments"])
        keys, months = (
            {
                (row["network_id"], row["key_id"]): _spent(row)
                for row in rows["tenant.key_spend"]
                if total == (row["period"] == "total")
            }
            for total in (True, False)
        )
        assert keys == months, "a key's month is not what it is in all"
        settled = [row for row in entries if row["kind"] == "settlement"]
        return {
            "balances": {
                (row["network_id"], row["account"]): (row["posted_microcents"], row["held_microcents"])
                for row in rows["tenant.balances"]
            },
            "holds": {
                (row["network_id"], row["hold_id"]): (row["state"], row["amount_microcents"]) for row in holds
            },
            "attempts": {row["attempt_id"]: row["state"] for row in rows["platform.attempts"]},
            "rows": {
                (row["network_id"], row["side"], row["transaction_id"]): (
                    row["state"],
                    row["total_microcents"],
                    row["fee_microcents"],
                    row["earnings_microcents"],
                )
                for row in rows["tenant.transactions"]
            },
            "queued": {(row["network_id"], row["transaction_id"]) for row in rows["platform.queued"]},
            "results": {(row["network_id"], row["transaction_id"]) for row in rows["tenant.results"]},
            "keys": keys,
            "transfers": {(row["network_id"], row["transfer_id"]) for row in settled},
            "fees": sum(row["amount_microcents"] for row in settled if row["account"] == "fee"),
        }


def _spent(row: asyncpg.Record) -> tuple[int, int]:
    return row["held_microcents"], row["spent_microcents"]


async def _outcome(answer: asyncio.Future[str]) -> str | BaseException:
    try:
        return await answer
    except Exception as error:
        return error


def without_check(table: str, part: str) -> str:
    """A statement that drops the table's constraint with `part` in it."""
    return (
        "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)"
        f" FROM pg_constraint WHERE conrelid = '{table}'::regclass"
        f" AND strpos(pg_get_constraintdef(oid), '{part}') > 0); END $$"
    )
