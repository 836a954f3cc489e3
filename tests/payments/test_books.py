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


async def test_holds_that_nobody_will_end_are_found_in_every_network(
    database: Database, clock: ManualClock, ids: SeededIds
) -> None:
    """Of the dead, and late ones of the living. Fails when the job sees none of two networks."""
    alive = Money(database, clock, ids, node=Node(UUID(int=1), UUID(int=2)))
    dead = Money(database, clock, ids, node=Node(UUID(int=1), UUID(int=3)))
    scopes = [await alive.network(100) for _ in range(2)]
    late = {(scope.network_id, await alive.hold(scope.network_id, CENT)) for scope in scopes}
    clock.advance(30)
    of_the_dead = {(scope.network_id, await dead.hold(scope.network_id, CENT)) for scope in scopes}
    for scope in scopes:
        await alive.hold(scope.network_id, CENT)
        await dead.void(scope.network_id, await dead.hold(scope.network_id, CENT))
    boots = [alive.node.boot_id]

    async def stale(seconds: int) -> set[tuple[UUID, UUID]]:
        before = clock.now() + timedelta(seconds=seconds)
        async with database.transaction(System("reconciler")) as tx:
            found = await alive.payments.stale_holds(tx, live_boots=boots, deadline_before=before)
        return {(hold.network_id, hold.hold_id) for hold in found}

    assert await stale(30) == of_the_dead
    assert await stale(31) == of_the_dead | late
    for network_id, hold_id in of_the_dead | late:
        assert await alive.void(network_id, hold_id, "expired")
    assert await stale(31) == set()
    books = await alive.payments.trial_balance()
    assert books.sound
    assert (books.open_holds, books.held_microcents) == (2, 2 * CENT)
    await audit(database)


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
