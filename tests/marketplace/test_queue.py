"""Requests that wait for a slot: in turn, in the books, and never for nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tests.marketplace.queue_market import (
    DEAR_CENTS,
    ask,
    narrow_market,
    queued,
    rows,
    states,
    until,
    waiting,
)
from tests.marketplace.world import MODEL, Node, World, chat
from yggdrasil.db.address import Login
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LimitReached,
    NoProvider,
    PaymentMethodRequired,
    PaymentRequired,
    Unavailable,
)
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace import store_queue
from yggdrasil.marketplace.requests import State


async def test_ten_of_three_networks_are_served_in_turns(world: World) -> None:
    gate = await narrow_market(world)
    first, second, third = [await world.buyer() for _ in range(3)]
    order: list[UUID] = []

    async def served(who: Network) -> None:
        await ask(world, who)
        order.append(who.network_id)

    tasks = [asyncio.ensure_future(served(first))]
    await until(lambda: len(gate.jobs) == 1)
    others = [first] * 5 + [second] * 2 + [third] * 2
    tasks += [await queued(world, lambda who=who: served(who)) for who in others]
    assert waiting(world) == 9
    assert (await world.books()).open_holds == 1  # nothing is held for those who wait
    assert await states(world, first) == [("PENDING", None)] * 5 + [("PROCESSING", None)]
    for number in range(10):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
        await until(lambda number=number: len(order) == number + 1)
    names = {who.network_id: name for name, who in zip("abc", (first, second, third), strict=True)}
    assert "".join(names[one] for one in order) == "aabcabcaaa"
    await asyncio.gather(*tasks)
    assert waiting(world) == await rows(world) == 0
    assert [state for state, _ in await states(world, first)] == ["COMPLETED"] * 6
    books = await world.no_holds()
    assert books.cost_microcents > 0


async def test_a_slot_goes_to_who_waits_and_not_to_who_comes(world: World) -> None:
    gate = await narrow_market(world)
    early, late = await world.buyer(), await world.buyer()
    running = asyncio.ensure_future(ask(world, early))
    await until(lambda: len(gate.jobs) == 1)
    waits = await queued(world, lambda: ask(world, early))
    gate.answer()
    await running
    with pytest.raises(NoProvider, match="busy"):
        await ask(world, late, queue_seconds=0)
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    await waits


async def test_a_request_for_another_model_is_not_in_the_way(world: World) -> None:
    one, two = await narrow_market(world, model="one"), await narrow_market(world, model="two")
    buyer = await world.buyer()
    tasks = [asyncio.ensure_future(ask(world, buyer, model=name)) for name in ("one", "two")]
    await until(lambda: len(one.jobs) == len(two.jobs) == 1)
    tasks += [await queued(world, lambda name=name: ask(world, buyer, model=name)) for name in ("one", "two")]
    two.answer()
    await until(lambda: len(two.jobs) == 1)
    assert waiting(world) == 1
    two.answer()
    for _ in range(2):
        await until(lambda: len(one.jobs) == 1)
        one.answer()
    await asyncio.gather(*tasks)


async def test_auto_waits_for_any_of_the_models_that_are_busy(world: World) -> None:
    one, two = await narrow_market(world, model="one"), await narrow_market(world, model="two")
    buyer = await world.buyer()
    tasks = [asyncio.ensure_future(ask(world, buyer, model=name)) for name in ("one", "two")]
    await until(lambda: len(one.jobs) == len(two.jobs) == 1)
    waits = await queued(world, lambda: ask(world, buyer, model="auto"))
    page = await world.market.transactions(buyer, side="requester", limit=1, cursor=None)
    assert (page.items[0].state, page.items[0].model) == ("PENDING", "auto")
    two.answer()
    await until(lambda: len(two.jobs) == 1)
    two.answer()
    finished = await waits
    assert finished.answer["model"] == "two"
    assert finished.told()["model_choice"]["chosen"] == "two"
    assert (await world.market.transaction(buyer, finished.transaction_id)).model == "two"
    one.answer()
    await asyncio.gather(*tasks)
    await world.no_holds()


async def test_a_new_offer_wakes_who_waits(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    waits = [await queued(world, lambda: ask(world, buyer)) for _ in range(3)]
    await world.seller("another")
    await asyncio.wait_for(asyncio.gather(*waits), 5)
    gate.answer()
    await running


async def test_who_waits_too_long_is_told_so_and_pays_nothing(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    with pytest.raises(NoProvider, match="busy") as caught:
        await ask(world, buyer, queue_seconds=1)
    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
    assert (await states(world, buyer))[0] == ("FAILED", "no_provider")
    assert waiting(world) == await rows(world) == 0
    gate.answer()
    await running
    await world.no_holds()


async def test_the_deadline_bounds_the_wait(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    async with asyncio.timeout(5):
        with pytest.raises(NoProvider):
            await ask(world, buyer, deadline_seconds=1)
    gate.answer()
    await running


async def test_cancelled_while_it_waits(world: World) -> None:
    gate = await narrow_market(world)
    buyer, stranger = await world.buyer(), await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    waits = await queued(world, lambda: ask(world, buyer))
    behind = await queued(world, lambda: ask(world, buyer))
    page = await world.market.transactions(buyer, side="requester", limit=3, cursor=None)
    mine = page.items[1].transaction_id
    with pytest.raises(Exception, match="No such thing"):
        await world.market.cancel(stranger, mine)
    await world.market.cancel(buyer, mine)
    with pytest.raises(Conflict, match="cancelled while it waited"):
        await waits
    found = await world.market.transaction(buyer, mine)
    assert (found.state, found.error_code, found.total_microcents) == ("CANCELLED", "cancelled", 0)
    with pytest.raises(Conflict):
        await world.market.cancel(buyer, mine)
    for _ in range(2):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
    await asyncio.gather(running, behind)
    await world.no_holds()


async def test_who_hangs_up_leaves_the_queue_and_a_slot_just_given_goes_on(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    gone = await queued(world, lambda: ask(world, buyer))
    behind = await queued(world, lambda: ask(world, buyer))
    # The turn comes, and in the same moment its owner goes.
    world.market._serving.queue._serve(None, False)
    offer = next(iter(world.market.routing._offers))
    world.market.routing._router.release(offer.bytes)
    world.market.routing.on_free(None, False)
    assert waiting(world) == 1
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await until(lambda: len(gate.jobs) == 2)
    assert waiting(world) == 0
    gate.answer()
    gate.answer()
    await asyncio.gather(running, behind)
    async with asyncio.timeout(5):
        while ("CANCELLED", "cancelled") not in await states(world, buyer):
            await asyncio.sleep(0.01)
    await world.no_holds()


async def test_who_cannot_pay_does_not_wait(world: World) -> None:
    gate = await narrow_market(world, price_cents=DEAR_CENTS)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    nobody, poor = await world.person(), await world.buyer(50)
    with pytest.raises(PaymentMethodRequired):
        await ask(world, nobody)
    with pytest.raises(PaymentRequired):
        await ask(world, poor)
    assert await states(world, poor) == await states(world, nobody) == []
    assert waiting(world) == await rows(world) == 0
    # The control: what little there is does for less.
    waits = await queued(world, lambda: ask(world, poor, max_cost_microcents=40_000_000))
    gate.answer()
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    await asyncio.gather(running, waits)
    await world.no_holds()


async def test_whose_money_is_gone_when_the_turn_comes_is_refused(world: World) -> None:
    gate = await narrow_market(world, price_cents=DEAR_CENTS)
    buyer, payer = await world.buyer(), await world.buyer(150)
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    waits = [await queued(world, lambda: ask(world, payer)) for _ in range(2)]
    gate.answer()
    await until(lambda: len(gate.jobs) == 1)
    extra = await narrow_market(world, model=MODEL + "-x")
    assert not extra.jobs
    offer = next(one for one in world.market.routing._offers.values() if one.model == MODEL)
    world.market.routing.put(replace(offer, capacity_jobs=2), online=True)
    with pytest.raises(PaymentRequired):
        await waits[1]
    assert (await states(world, payer))[0] == ("FAILED", "insufficient_funds")
    gate.answer()
    await asyncio.gather(running, waits[0])
    await world.no_holds()


async def test_the_idempotency_key_is_taken_from_the_start(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    request = replace(chat(queue_seconds=30), idempotency_key="once")
    waits = await queued(world, lambda: world.market.run(buyer, request))
    with pytest.raises(Conflict, match="idempotency_key"):
        await world.market.run(buyer, request)
    with pytest.raises(Conflict, match="idempotency_key"):
        await world.market._serving.start(buyer, request)  # past the first look at the books
    gate.answer()
    run = await waits
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    await run.outcome()
    await running
    assert len(await states(world, buyer)) == 2


async def test_the_limits_of_a_user_a_network_and_the_whole(world: World) -> None:
    world.settings = replace(
        world.settings, queue_max=3, queue_per_network_max=2, queue_per_user_max=1, queue_seconds=30.0
    )
    await world.market.stop(0)
    world.market = world.make_market(world.node)
    await world.market.start()
    gate = await narrow_market(world)
    buyer, other, third = [await world.buyer() for _ in range(3)]
    member, guest = [await world.person(buyer) for _ in range(2)]
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    tasks = [await queued(world, lambda: ask(world, buyer))]
    with pytest.raises(LimitReached, match="1 requests of one user"):
        await ask(world, buyer)
    tasks.append(await queued(world, lambda: ask(world, member)))
    with pytest.raises(LimitReached, match="2 requests of one network"):
        await ask(world, guest)
    tasks.append(await queued(world, lambda: ask(world, other)))
    with pytest.raises(NoProvider, match="busy"):
        await ask(world, third)
    for _ in range(4):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
    await asyncio.gather(running, *tasks)


async def test_a_server_that_stops_tells_those_who_wait_at_once(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    waits = await queued(world, lambda: ask(world, buyer))
    stopping = asyncio.ensure_future(world.market.stop(30))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(waits, 10)
    assert ("FAILED", "unavailable") in await states(world, buyer)
    gate.answer()
    await asyncio.gather(running, stopping)
    await world.no_holds()


async def test_what_a_dead_boot_left_waiting_is_ended_in_every_network(world: World, admin: Login) -> None:
    gate = await narrow_market(world)
    buyers = [await world.buyer(), await world.buyer()]
    running = asyncio.ensure_future(ask(world, buyers[0]))
    await until(lambda: len(gate.jobs) == 1)
    tasks = [await queued(world, lambda who=who: ask(world, who)) for who in buyers]
    for task in list(world.market._serving._tasks):
        task.cancel()
    await asyncio.gather(running, *tasks, return_exceptions=True)
    assert await world.reconciler.run_once() == 0  # the control: this boot is alive
    assert await rows(world) == 2
    following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
    assert await following.run_once() == 3  # the running one too
    assert await rows(world) == 0
    for who in buyers:
        assert (await states(world, who))[0] == ("FAILED", "server_lost")
    assert await following.run_once() == 0
    await world.no_holds()


async def test_a_wait_past_its_deadline_is_ended_and_not_begun_after_that(world: World) -> None:
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    waits = await queued(world, lambda: ask(world, buyer))
    async with world.database.transaction(System("reconciler")) as tx:
        (found,) = await store_queue.stale(
            tx, live_boots=[], deadline_before=world.clock.now() + timedelta(days=1)
        )
    records = world.reconciler._records
    assert await records.leave(found.network_id, found.transaction_id, State.FAILED, "deadline")
    assert not await records.leave(found.network_id, found.transaction_id, State.FAILED, "deadline")
    gate.answer()
    with pytest.raises(Exception, match="was ended"):
        await waits
    assert not gate.jobs
    assert (await states(world, buyer))[0] == ("FAILED", "deadline")
    await running
    await world.no_holds()
    # Its slot is free again.
    again = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    await again


@pytest.mark.parametrize("seconds", [-1, 61])
def test_how_long_to_wait_is_checked(seconds: int) -> None:
    with pytest.raises(InvalidInput, match="queue_seconds: must be 0 to 60"):
        chat(queue_seconds=seconds)
