"""Several nodes on the same networks at once: no deadlock, no lost update, no wallet overspent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from tests.batches.stand import Stand, without_check
from tests.batches.test_items import amounts
from tests.batches.traffic import RATE, Tell, Traffic
from tests.conftest import Cluster
from tests.payments.support import CENT
from tests.support import SeededIds
from yggdrasil.db.address import Login
from yggdrasil.db.bootstrap import open_database
from yggdrasil.errors import Conflict, PaymentRequired
from yggdrasil.marketplace.store_run import Ending, NewAttempt, NewTransaction

NODES = 3
START_CENTS = 3_000


@pytest.fixture
async def nodes(stand: Stand, cluster: Cluster, admin: Login) -> AsyncIterator[list[Stand]]:
    """Nodes with connections of their own, where PostgreSQL looks for a deadlock at once: a batch waits
    100 ms for a lock, and would go aside before it does."""
    address = stand.money.database.pools["ygg_settle"].address
    await stand.execute(f"ALTER DATABASE \"{address.database}\" SET deadlock_timeout = '20ms'")
    made = []
    for number in range(NODES):
        ids = SeededIds(stand.ids.seed + 100 + number)
        database = open_database(
            address, cluster.keys, stand.clock, SeededIds(ids.seed + 50), connections_max=6
        )
        made.append(Stand(database, stand.clock, ids, admin))
        made[-1].scopes = stand.scopes
    yield made
    for node in made:
        await node.money.database.close()


async def deadlocks(stand: Stand, nodes: Sequence[Stand]) -> int:
    """As PostgreSQL counts them: a backend tells its count when it ends, at the latest."""
    ending = []
    for node in nodes:
        ending += [one.get_server_pid() for one in node.money.database.pools["ygg_settle"]._idle]
        await node.money.database.close()
    async with asyncio.timeout(30):
        while await stand.look("SELECT FROM pg_stat_activity WHERE pid = ANY ($1::int[])", ending):
            await asyncio.sleep(0.02)
    (row,) = await stand.look("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(row["deadlocks"])


async def trade(nodes: Sequence[Stand], requests: int) -> Counter[UUID]:
    """Every network buys of every other, at all nodes at once; what each paid, as its clients were told.
    Raises what a client gets."""
    paid: Counter[UUID] = Counter()

    def teller(node: Stand) -> Tell:
        def tell(word: str, attempt: UUID, amount: int) -> None:
            assert word not in ("unknown", "ended", "refused"), f"a client was told {word}"
            if word == "settled":
                paid[node.payers[attempt]] += amount

        return tell

    traffics = [Traffic(node, random.Random(node.ids.seed), teller(node)) for node in nodes]
    await asyncio.gather(*(traffic.ask() for traffic in traffics for _ in range(requests)))
    return paid


async def test_nodes_that_trade_in_rings_never_wait_in_a_ring(stand: Stand, nodes: list[Stand]) -> None:
    for scope in stand.scopes[:-1]:
        await stand.topup(scope, START_CENTS)
    paid = await trade(nodes, 120)
    for node in nodes:
        assert max(node.records._admissions.sizes) > 8
        assert max(node.records._endings.sizes) > 8
    balances = (await stand.seen())["balances"]
    for scope in stand.scopes[:-1]:
        left = START_CENTS * CENT - paid[scope.network_id]
        assert balances[scope.network_id, "wallet"] == (left, 0), "an update was lost"
    assert (await stand.money.payments.trial_balance()).sound
    assert await deadlocks(stand, nodes) == 0


async def test_a_lock_order_of_ones_own_is_found(stand: Stand, nodes: list[Stand]) -> None:
    """The control: every backend takes the balances in an order of its own."""
    for scope in stand.scopes[:-1]:
        await stand.topup(scope, START_CENTS)
    await stand.plant(
        "end_holds",
        "ORDER BY m.network_id, m.account",
        "ORDER BY md5(m.network_id::text || pg_backend_pid()::text), m.account",
    )
    found: list[BaseException] = []
    for _ in range(5):
        try:
            await trade(nodes, 60)
        except Exception as error:
            found.append(error)
        if found:
            break
    assert await deadlocks(stand, nodes) or found, "the test above could not fail"


async def test_a_request_asked_again_while_it_fails_over_waits_in_no_ring(
    stand: Stand, nodes: list[Stand]
) -> None:
    """Its idempotency key is in its row, and its wallet is the same: both are taken in one order."""
    first, other = nodes[0], nodes[1]
    payer = stand.scopes[0]
    await stand.topup(payer, START_CENTS)

    async def race(number: int) -> None:
        new, attempt = first.request(payer, stand.scopes[1], RATE)
        new = replace(new, idempotency_key=f"again {number}")
        assert await first.records.admit(new, attempt, CENT) == "done"
        _, following = first.request(payer, stand.scopes[2], RATE)
        following = replace(following, ordinal=2)
        ending = Ending("failed", "x", None, None, None, None, first.clock.now())
        asked = [other.request(payer, stand.scopes[2], RATE) for _ in range(3)]
        moved, *told = await asyncio.gather(
            first.records.fail_over(new, attempt, ending, following, rehold_microcents=2 * CENT),
            *(
                other.records.admit(replace(again, idempotency_key=new.idempotency_key), one, CENT)
                for again, one in asked
            ),
            return_exceptions=True,
        )
        assert moved is True
        assert [type(one) for one in told] == [Conflict] * len(asked), told

    await asyncio.gather(*(race(number) for number in range(60)))
    assert (await stand.money.payments.trial_balance()).sound
    assert await deadlocks(stand, nodes) == 0


async def test_one_wallet_is_never_overspent(stand: Stand, nodes: list[Stand]) -> None:
    """Fifty cents, and 240 requests of one each at three nodes; then half of them cost less, and as much more
    is admitted as that leaves."""
    assert await spend(stand, nodes, cents=50) == (50, 25)


async def test_a_wallet_that_nobody_looks_into_is_overspent(stand: Stand, nodes: list[Stand]) -> None:
    """The control."""
    await stand.plant(
        "take_hold", "AND b.posted_microcents - b.held_microcents >= take_hold.amount_microcents", ""
    )
    await stand.execute(without_check("tenant.balances", " - (held_microcents)"))
    assert (await spend(stand, nodes, cents=50, look=False))[0] > 50


async def spend(stand: Stand, nodes: Sequence[Stand], *, cents: int, look: bool = True) -> tuple[int, int]:
    """How many requests of a cent were admitted at first, and again after each of those had cost half."""
    payer, seller = stand.scopes[0], stand.scopes[1]
    await stand.topup(payer, cents)

    async def admit(number: int) -> tuple[Stand, NewTransaction, NewAttempt] | None:
        node = nodes[number % NODES]
        new, attempt = node.request(payer, seller, RATE)
        try:
            await node.records.admit(new, attempt, CENT)
        except PaymentRequired:
            return None
        return node, new, attempt

    async def settle(node: Stand, new: NewTransaction, attempt: NewAttempt) -> None:
        ending = Ending("completed", None, 1, 1, 1, 1, node.clock.now())
        assert await node.records.finish(new, attempt, ending, amounts(CENT // 2), None) == "done"

    first = [one for one in await asyncio.gather(*(admit(number) for number in range(240))) if one]
    if not look:
        return len(first), 0
    await asyncio.gather(*(settle(*one) for one in first))
    second = [one for one in await asyncio.gather(*(admit(number) for number in range(240))) if one]
    assert (await stand.money.payments.trial_balance()).sound
    assert (await stand.seen())["balances"][payer.network_id, "wallet"] == (
        cents * CENT // 2,
        len(second) * CENT,
    )
    return len(first), len(second)
