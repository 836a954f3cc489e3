"""The money path in batches, on PostgreSQL: as one by one, each item under its own scope alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import CONNECTIONS_MAX, Cluster
from tests.marketplace.desk import Desk, books, clear, desk_of
from tests.payments.support import CENT, Money
from tests.support import ManualClock, SeededIds, as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.db.bootstrap import open_database
from yggdrasil.errors import Conflict, LedgerError, PaymentMethodRequired, PaymentRequired, YggdrasilError
from yggdrasil.kernel import PLATFORM_NETWORK, Network, Settle
from yggdrasil.marketplace.batch_items import Admission, AttemptEnd
from yggdrasil.marketplace.batches import ITEMS_MAX
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import Bill, Ending, NewAttempt, NewTransaction


@pytest.fixture
def money(database: Database, clock: ManualClock, ids: SeededIds) -> Money:
    return Money(database, clock, ids)


@pytest.fixture
def desk(money: Money) -> Desk:
    return desk_of(money, money.database)


@pytest.fixture
async def other(money: Money, cluster: Cluster) -> AsyncIterator[Desk]:
    """A second node on the same database."""
    address = money.database.pools["ygg_settle"].address
    made = open_database(
        address, cluster.keys, money.clock, SeededIds(money.ids.seed + 9), connections_max=CONNECTIONS_MAX
    )
    yield desk_of(money, made)
    await made.close()


@pytest.mark.parametrize("number", range(4))
async def test_batches_write_what_single_items_write(desk: Desk, admin: Login, number: int) -> None:
    """Same wallet many times, cover that ends in the middle, free and own offers, keys and ids used twice."""
    money, dice = desk.money, random.Random(money_seed := desk.ids.seed + number)
    networks = [await money.network(cents) for cents in (60, 80, 200)] + [await money.network()]
    start = (await books(money, admin))[0]
    sellers: list[Network | UUID] = [*networks, PLATFORM_NETWORK]
    asked, amounts, totals = [], [], []
    for _ in range(3 * ITEMS_MAX):
        made = desk.request(
            dice.choice(networks),
            dice.choice(sellers),
            free=dice.random() < 0.1,
            key=dice.choice([None, None, "k1", "k2"]),
        )
        if asked and dice.random() < 0.05:
            made = dice.choice(asked)
        asked.append(made)
        amounts.append(dice.randrange(1, 8 * CENT))
        totals.append(0 if made[1].hold_id is None else dice.choice([0, 1, amounts[-1] // 2 + 1]))

    async def run(one_by_one: bool) -> tuple[list[str], list[str], list[list[tuple[object, ...]]]]:
        records = desk.records
        admitted, finished = [], []
        # Sorted as a batch is, and cut where it is cut: then the outcomes must be the same, one for one.
        order = sorted(
            range(len(asked)), key=lambda n: Admission(*asked[n], 0, False, desk.clock.now()).order()
        )
        for first in range(0, len(order), ITEMS_MAX):
            part = order[first : first + ITEMS_MAX]
            if one_by_one:
                admitted += [await desk.admit(asked[n], amounts[n]) for n in part]
            else:
                admitted += await asyncio.gather(*(desk.admit(asked[n], amounts[n]) for n in part))
        done = [n for n, outcome in zip(order, admitted, strict=True) if outcome == "done"]
        for first in range(0, len(done), ITEMS_MAX):
            part = done[first : first + ITEMS_MAX]
            if one_by_one:
                finished += [await desk.finish(asked[n], totals[n]) for n in part]
            else:
                finished += await asyncio.gather(*(desk.finish(asked[n], totals[n]) for n in part))
        if not one_by_one:
            assert max(records._admissions.sizes) > 16, "nothing went in a batch"
            assert max(records._endings.sizes) > 8, "nothing went in a batch"
        assert (await money.payments.trial_balance()).sound
        return admitted, finished, await books(money, admin)

    single = await run(one_by_one=True)
    await clear(money, admin, start)
    assert (await books(money, admin))[0] == start
    assert await run(one_by_one=False) == single, f"seed {money_seed}"
    assert {"done", "PaymentRequired", "Conflict"} <= set(single[0])


async def test_batches_of_two_nodes_and_single_statements_never_wait_in_a_ring(
    desk: Desk, other: Desk
) -> None:
    money = desk.money
    networks = [await money.network(5_000) for _ in range(4)]
    dice = random.Random(desk.ids.seed)

    async def trade(node: Desk) -> None:
        payer, seller = dice.sample(networks, 2)
        asked = node.request(payer, seller, key=dice.choice([None, f"k{dice.randrange(20)}"]))
        outcome = await node.admit(asked, CENT)
        if outcome != "done":
            assert outcome == "Conflict"
            return
        end = dice.randrange(4)
        hold = asked[1].hold_id
        if end == 0:  # the hold is ended by a statement of its own, racing the batch
            gave, finished = await asyncio.gather(
                node.records.end_hold(payer.network_id, hold),  # type: ignore[arg-type]
                node.finish(asked, CENT // 2),
            )
            assert finished == ("ended" if gave else "done")
        elif end == 1:  # both nodes end it, as a reconciler does
            ended, finished = await asyncio.gather(
                other.records.end_lost(
                    asked[1].attempt_id, payer.network_id, seller.network_id, hold, "server_lost"
                ),
                desk.finish(asked, CENT // 2),
            )
            assert finished == ("ended" if ended else "done")
        else:
            assert await node.finish(asked, CENT // 2) == "done"

    await asyncio.gather(*(trade(desk if n % 2 else other) for n in range(240)))
    assert max(desk.records._admissions.sizes) > 1
    assert max(desk.records._endings.sizes) > 1
    found = await money.payments.trial_balance()
    assert found.sound
    assert found.open_holds == 0


async def test_a_locked_wallet_makes_nobody_else_wait(desk: Desk) -> None:
    money = desk.money
    locked, seller, *rest = [await money.network(100) for _ in range(6)]
    loop = asyncio.get_running_loop()
    async with money.database.transaction(Settle((locked.network_id,))) as tx:
        await tx.execute(
            "UPDATE tenant.balances SET held_microcents = held_microcents WHERE network_id = $1",
            locked.network_id,
        )
        stuck = [
            asyncio.create_task(desk.admit(desk.request(locked, seller), CENT)) for _ in range(ITEMS_MAX)
        ]
        free = [asyncio.create_task(desk.admit(desk.request(payer, seller), CENT)) for payer in rest * 8]
        begun = loop.time()
        assert await asyncio.gather(*free) == ["done"] * len(free)
        assert loop.time() - begun < 5
        assert not any(task.done() for task in stuck)
        # Who waits may leave: the others' answers come all the same.
        stuck[0].cancel()
    assert await asyncio.gather(*stuck[1:]) == ["done"] * (ITEMS_MAX - 1)
    assert (await money.payments.trial_balance()).sound


async def test_who_leaves_does_not_end_the_batch(desk: Desk) -> None:
    payer, seller = await desk.money.network(100), await desk.money.network()
    first = [desk.request(payer, seller) for _ in range(8)]
    tasks = [asyncio.create_task(desk.admit(asked, CENT)) for asked in first]
    await asyncio.sleep(0)  # in a batch, and on its way
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert (await asyncio.gather(*tasks[1:])) == ["done"] * 7
    assert (await desk.money.payments.trial_balance()).sound


async def test_an_item_outside_its_scope_is_refused_and_its_neighbour_is_not(
    desk: Desk, admin: Login
) -> None:
    money = desk.money
    payer, seller, third = [await money.network(100) for _ in range(3)]
    good, bad = desk.request(payer, seller), desk.request(third, seller)
    at = desk.clock.now()
    items = [Admission(*good, CENT, False, at), Admission(*bad, CENT, False, at)]
    rows = [
        # The third network's request, under the scope of the two others.
        ([payer.network_id, seller.network_id], *item.row()[1:])
        for item in items
    ]
    assert await money.database.call("admit_batch", rows) == ["admitted", "method"]
    four = [payer.network_id, seller.network_id, third.network_id, PLATFORM_NETWORK]
    again = Admission(*desk.request(payer, seller), CENT, False, at).row()
    assert await money.database.call("admit_batch", [(four, *again[1:])]) == ["payout"]
    assert await desk.admit(bad, CENT) == "done"
    ending = Ending("completed", None, 1, 1, 1, 1, at)
    bill = Bill(State.COMPLETED, 1, 1, 100, 12, 88)

    def end(asked: tuple[NewTransaction, NewAttempt], payer_network: UUID) -> AttemptEnd:
        _, attempt = asked
        return AttemptEnd(
            attempt.attempt_id, payer_network, seller.network_id, attempt.hold_id, "posted", ending, bill
        )

    before = await books(money, admin)
    stranger = end(bad, third.network_id).row()
    stranger = ([payer.network_id, seller.network_id, PLATFORM_NETWORK], *stranger[1:])
    assert await money.database.call("finish_batch", [stranger]) == ["ended"]
    # Its attempt in sight, and another network's hold, which is not the attempt's: refused as a whole.
    with pytest.raises(asyncpg.PostgresError, match="from its own hold"):
        await money.database.call(
            "finish_batch", [replace(end(good, payer.network_id), hold_id=bad[1].hold_id).row()]
        )
    assert await books(money, admin) == before
    pool = money.database.pools["ygg_settle"]
    connection = await pool.acquire()
    try:
        for name in ("network", "user", "role", "networks", "job"):
            assert not await connection.fetchval(f"SELECT current_setting('app.{name}', true)")
        assert await connection.fetchval("SELECT count(*) FROM tenant.balances") == 0
    finally:
        pool.release(connection, clean=True)


@pytest.mark.parametrize("role", ["ygg_network", "ygg_identity", "ygg_market", "ygg_system", "ygg_settle"])
async def test_the_functions_are_the_posters_alone(desk: Desk, role: str) -> None:
    pool = desk.money.database.pools[role]
    connection = await pool.acquire()
    try:
        for call in ("admit_batch('{}')", "finish_batch('{}')", "end_holds('{}')", "enter_scope('{}')"):
            if role == "ygg_settle":
                await connection.fetch(f"SELECT platform.{call}")
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT platform.{call}")
    finally:
        pool.release(connection, clean=True)


async def test_a_queued_request_is_begun_once(desk: Desk, admin: Login) -> None:
    money = desk.money
    payer, seller = await money.network(100), await money.network()
    new, attempt = desk.request(payer, seller)
    await desk.admit((new, attempt), CENT)
    await as_superuser(
        money.database, admin, "UPDATE tenant.transactions SET state = 'PENDING', attempts = 0"
    )
    following = replace(
        attempt, attempt_id=desk.ids.uuid(), hold_id=desk.ids.uuid(), provider_transaction=desk.ids.uuid()
    )
    assert await desk.records.admit(new, following, CENT, queued=True) == "done"
    state = "SELECT state, attempts FROM tenant.transactions WHERE side = 'requester'"
    assert await as_superuser(money.database, admin, state) == [{"state": "PROCESSING", "attempts": 1}]
    third = replace(attempt, attempt_id=desk.ids.uuid(), hold_id=desk.ids.uuid())
    before = await books(money, admin)
    assert await desk.records.admit(new, third, CENT, queued=True) == "ended"
    assert await books(money, admin) == before


async def test_errors_are_those_of_single_items(desk: Desk) -> None:
    money = desk.money
    payer, seller, poor = await money.network(100), await money.network(), await money.network()
    assert isinstance(
        await error_of(lambda: desk.records.admit(*desk.request(poor, seller), CENT)), PaymentRequired
    )
    (method,) = await money.payments.list_methods(poor)
    await money.payments.remove_method(poor, method.method_id)
    refused = await error_of(lambda: desk.records.admit(*desk.request(poor, seller), CENT))
    assert isinstance(refused, PaymentMethodRequired)
    asked = desk.request(payer, seller, key="once")
    assert await desk.admit(asked, CENT) == "done"
    used = await error_of(lambda: desk.records.admit(*desk.request(payer, seller, key="once"), CENT))
    assert isinstance(used, Conflict)
    assert used.field == "idempotency_key"
    # A bug beside a good item: the good one is written, the bug is told.
    good = desk.request(payer, seller)
    assert await desk.admit(good, CENT) == "done"
    outcomes = await asyncio.gather(
        *(desk.finish(one, total) for one, total in ((asked, 2 * CENT), (good, CENT)))
    )
    assert outcomes == [LedgerError.__name__, "done"]
    assert await desk.finish(good, CENT) == "done"
    assert await desk.finish(asked, CENT) == "done"
    found = await money.payments.trial_balance()
    assert found.sound
    assert found.cost_microcents == 2 * CENT


async def error_of(call: Callable[[], Any]) -> YggdrasilError:
    with pytest.raises(YggdrasilError) as caught:
        await call()
    return caught.value


async def test_a_hold_that_had_ended_before_the_first_of_a_batch_leaves_the_others_whole(desk: Desk) -> None:
    """What ends nothing comes before what pays: balances and entries of the latter belong together."""
    money = desk.money
    payer, seller = await money.network(5_000), await money.network(0)
    asked = [desk.request(payer, seller) for _ in range(4)]
    for one in asked:
        assert await desk.admit(one, CENT) == "done"
    at = desk.clock.now()
    empty, paid = Bill(State.COMPLETED), Bill(State.COMPLETED, 1, 1, 100, 12, 88)

    def end(number: int, state: str, bill: Bill) -> AttemptEnd:
        _, attempt = asked[number]
        return AttemptEnd(
            attempt.attempt_id,
            payer.network_id,
            seller.network_id,
            attempt.hold_id,
            state,
            Ending("completed", None, 1, 1, 1, 1, at),
            bill,
        )

    for number in (0, 1):
        hold = asked[number][1].hold_id
        assert hold is not None
        assert await desk.records.end_hold(payer.network_id, hold)
    ends = [end(0, "voided", empty), end(1, "voided", empty), end(2, "posted", paid), end(3, "voided", empty)]
    assert await money.database.call("finish_batch", [one.row() for one in ends]) == ["done"] * 4
    found = await money.payments.trial_balance()
    assert found.sound
    assert (found.open_holds, found.cost_microcents) == (0, 100)
