"""What operators and reconcilers see: holds of the dead and the late, and books that were tampered with."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from tests.payments.auditor import audit
from tests.payments.support import CENT, Money, Node
from tests.support import ManualClock, SeededIds, as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.kernel import System
from yggdrasil.payments.service import HEARTBEAT_SECONDS_MAX


async def beat(database: Database, node: Node, *, seconds_ago: int) -> None:
    async with database.transaction(System("heartbeat")) as tx:
        at = await tx.clock() - timedelta(seconds=seconds_ago)
        await tx.execute(
            "INSERT INTO platform.nodes (boot_id, node_id, started_at, heartbeat_at) VALUES ($1, $2, $3, $3)"
            " ON CONFLICT (boot_id) DO UPDATE SET heartbeat_at = $3",
            node.boot_id,
            node.node_id,
            at,
        )


async def test_holds_of_dead_processes_are_found_in_every_network(
    database: Database, clock: ManualClock, ids: SeededIds
) -> None:
    """Fails when the job sees none of two networks."""
    alive = Money(database, clock, ids, node=Node(UUID(int=1), UUID(int=2)))
    dead = Money(database, clock, ids, node=Node(UUID(int=1), UUID(int=3)))
    unknown = Money(database, clock, ids, node=Node(UUID(int=1), UUID(int=4)))
    await beat(database, alive.node, seconds_ago=0)
    await beat(database, dead.node, seconds_ago=HEARTBEAT_SECONDS_MAX + 1)
    expected = set()
    for _ in range(2):
        scope = await alive.network(100)
        await alive.hold(scope.network_id, CENT)
        for money in (dead, unknown):
            expected.add((scope.network_id, await money.hold(scope.network_id, CENT), money.node.boot_id))
        ended = await dead.hold(scope.network_id, CENT)
        await dead.void(scope.network_id, ended)
    async with database.transaction(System("reconciler")) as tx:
        found = await alive.payments.open_holds_of_dead_boots(tx)
    assert {(hold.network_id, hold.hold_id, hold.owner_boot) for hold in found} == expected
    for hold in found:
        assert await alive.void(hold.network_id, hold.hold_id)
    async with database.transaction(System("reconciler")) as tx:
        assert await alive.payments.open_holds_of_dead_boots(tx) == []
    await audit(database)


async def test_late_holds_are_found_in_every_network(money: Money) -> None:
    """Fails when the job sees none of two networks."""
    scopes = [await money.network(100) for _ in range(2)]
    late = {(scope.network_id, await money.hold(scope.network_id, CENT)) for scope in scopes}
    money.clock.advance(30)
    for scope in scopes:
        await money.hold(scope.network_id, CENT)
    async with money.database.transaction(System("reconciler")) as tx:
        assert await money.payments.expired_holds(tx, money.clock.now() + timedelta(seconds=29)) == []
        found = await money.payments.expired_holds(tx, money.clock.now() + timedelta(seconds=30))
    assert {(hold.network_id, hold.hold_id) for hold in found} == late
    for hold in found:
        assert hold.transaction_id == hold.hold_id
        assert await money.void(hold.network_id, hold.hold_id, "expired")
    async with money.database.transaction(System("reconciler")) as tx:
        assert await money.payments.expired_holds(tx, money.clock.now() + timedelta(seconds=30)) == []
    books = await money.payments.trial_balance()
    assert books.sound
    assert (books.open_holds, books.held_microcents) == (2, 2 * CENT)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE tenant.balances SET posted_microcents = posted_microcents + 1 WHERE account = 'wallet'",
        "UPDATE tenant.balances SET held_microcents = held_microcents - 1 WHERE held_microcents > 0",
        "UPDATE tenant.entries SET amount_microcents = amount_microcents + 1 WHERE account = 'earnings'",
        "DELETE FROM tenant.entries WHERE account = 'fee'",
        "DELETE FROM tenant.balances WHERE account = 'earnings'",
        "DELETE FROM tenant.holds WHERE state = 'pending'",
        "INSERT INTO tenant.entries SELECT network_id, transfer_id, 9, 'wallet', 1, 'EUR', kind, at"
        " FROM tenant.entries WHERE account = 'wallet'",
    ],
)
async def test_tampering_shows(money: Money, admin: Login, tampering: str) -> None:
    """The controls of the audit and of the trial balance: each must fail when the books are wrong."""
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    await money.settle(payer.network_id, hold_id, CENT, seller.network_id, fee=100)
    await money.hold(payer.network_id, CENT)
    await audit(money.database)
    assert (await money.payments.trial_balance()).sound
    await as_superuser(money.database, admin, tampering)
    assert not (await money.payments.trial_balance()).sound
    with pytest.raises(AssertionError):
        await audit(money.database)
