"""One node's records without a market around them, requests for them, and what they leave in the books."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from tests.payments.support import Money, Node
from tests.support import ManualClock, SeededIds, as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import Network
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import Offer, State
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.store_run import Bill, Ending, NewAttempt, NewTransaction, SealedResult


@dataclass
class Desk:
    """One node's records, and the requests of the tests."""

    money: Money
    records: Records
    clock: ManualClock
    ids: SeededIds

    def request(
        self, payer: Network, seller: Network | UUID, *, free: bool = False, key: str | None = None
    ) -> tuple[NewTransaction, NewAttempt]:
        network, user = (
            (seller, self.ids.uuid()) if isinstance(seller, UUID) else (seller.network_id, seller.user_id)
        )
        own = network == payer.network_id
        uuid, now = self.ids.uuid, self.clock.now()
        offer = Offer(
            network,
            uuid(),
            uuid(),
            user,
            uuid(),
            "own" if own else "market",
            "active",
            "m",
            "chat",
            10,
            1000,
            "per_statement",
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
            "own" if own else "market",
            "chat",
            "m",
            key,
            now,
        )
        node = Node()
        hold = None if own or free else uuid()
        attempt = NewAttempt(
            uuid(),
            1,
            hold,
            None if own else uuid(),
            offer,
            1200,
            "{}",
            node.node_id,
            node.boot_id,
            now,
            now + timedelta(seconds=60),
        )
        return new, attempt

    async def admit(self, asked: tuple[NewTransaction, NewAttempt], amount: int) -> str:
        try:
            return await self.records.admit(*asked, amount)
        except YggdrasilError as error:
            return type(error).__name__

    async def finish(self, asked: tuple[NewTransaction, NewAttempt], total: int) -> str:
        ending = Ending("completed", None, 1, 1, 1, 1, self.clock.now())
        fee = total * 12 // 100
        bill = Bill(State.COMPLETED, 1, 1, total, fee, total - fee)
        result = SealedResult(b"n" * 12, b"sealed", self.clock.now() + timedelta(seconds=60))
        try:
            return await self.records.finish(*asked, ending, bill, result)
        except YggdrasilError as error:
            return type(error).__name__


def desk_of(money: Money, database: Database) -> Desk:
    money = Money(database, money.clock, money.ids) if database is not money.database else money
    records = Records(database, money.payments, money.clock, MarketSettings(settle_backoff_seconds=0.01))
    return Desk(money, records, money.clock, money.ids)


async def books(money: Money, admin: Login) -> list[list[tuple[object, ...]]]:
    """Everything that the money path writes, without the ids that differ from run to run."""
    return [
        [tuple(row.values()) for row in await as_superuser(money.database, admin, sql)]
        for sql in (
            "SELECT network_id, account, posted_microcents, held_microcents FROM tenant.balances"
            " ORDER BY 1, 2",
            "SELECT network_id, transfer_id, leg, account, amount_microcents FROM tenant.entries"
            " WHERE kind = 'settlement' ORDER BY 1, 2, 3",
            "SELECT network_id, hold_id, state, amount_microcents, transfer_id FROM tenant.holds"
            " ORDER BY 1, 2",
            "SELECT network_id, side, transaction_id, state, total_microcents, attempts, decision_card"
            " FROM tenant.transactions ORDER BY 1, 2, 3",
            "SELECT attempt_id, state, observed_tokens FROM platform.attempts ORDER BY 1",
            "SELECT network_id, transaction_id, user_id, sealed FROM tenant.results ORDER BY 1, 2",
        )
    ]


async def clear(money: Money, admin: Login, snapshot: list[tuple[object, ...]]) -> None:
    for table in ("tenant.holds", "tenant.transactions", "platform.attempts", "tenant.results"):
        await as_superuser(money.database, admin, f"DELETE FROM {table}")
    await as_superuser(money.database, admin, "DELETE FROM tenant.entries WHERE kind = 'settlement'")
    await as_superuser(money.database, admin, "DELETE FROM tenant.balances WHERE account = 'earnings'")
    for network, account, posted, _ in snapshot:
        await as_superuser(
            money.database,
            admin,
            "UPDATE tenant.balances SET posted_microcents = $3, held_microcents = 0"
            " WHERE network_id = $1 AND account = $2",
            network,
            account,
            posted,
        )
