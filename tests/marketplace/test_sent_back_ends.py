"""What was sent back to the queue ends as whatever waits does: in time, cancelled, unpaid, lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.flaky import flaky
from tests.marketplace.queue_market import (
    DEAR_CENTS,
    ask,
    attempts_of,
    narrow_market,
    newest,
    nothing_held,
    queued,
    refusing,
    rows,
    sent_back,
    states,
    until,
    waiting,
    waits_of,
)
from tests.marketplace.world import Node, World, chat_terms
from yggdrasil.errors import (
    Conflict,
    NoProvider,
    PaymentRequired,
    ProviderFailed,
    Timeout,
    Unavailable,
)
from yggdrasil.marketplace import refusals
from yggdrasil.marketplace.requests import State


async def test_who_is_refused_again_and_again_is_told_in_time_and_the_device_is_left_in_peace(
    world: World,
) -> None:
    _, device = await refusing(world)
    buyer = await world.buyer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NoProvider, match="busy") as caught:
        await ask(world, buyer, queue_seconds=3)
    assert 3 <= loop.time() - began < 3 + 5
    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
    mine = await newest(world, buyer)
    tries = await attempts_of(world, mine)
    # At once, after half a second, and a second after that: it rests for twice as long each time.
    assert 2 <= len(tries) <= 3
    assert all((state, hold) == ("busy", "voided") for _, state, hold in tries)
    assert await states(world, buyer) == [("FAILED", "no_provider")]
    assert len(await waits_of(world, mine)) == len(tries)
    assert await rows(world) == waiting(world) == 0
    await nothing_held(world, buyer)
    assert len(device.jobs) == 1  # the test of its registration


async def test_the_deadline_ends_what_was_sent_back(world: World) -> None:
    await refusing(world)
    buyer = await world.buyer()
    async with asyncio.timeout(8):
        with pytest.raises(NoProvider):
            await ask(world, buyer, deadline_seconds=1)
    assert await states(world, buyer) == [("FAILED", "no_provider")]
    await nothing_held(world, buyer)


@pytest.mark.usefixtures("long_rest")
@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_whoever_goes_while_it_was_sent_back_is_served_no_more(world: World, how: str) -> None:
    gate, device = await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    mine = await newest(world, buyer)
    if how == "cancel":
        await world.market.cancel(buyer, mine)
        with pytest.raises(Conflict, match="cancelled while it waited"):
            await asking
    else:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(5):
        while await states(world, buyer) != [("CANCELLED", "cancelled")]:
            await asyncio.sleep(0.01)
    assert await rows(world) == waiting(world) == 0
    device.busy = False
    await asyncio.sleep(2 * refusals.REST_SECONDS)
    assert gate.jobs == []
    with pytest.raises(Conflict):
        await world.market.cancel(buyer, mine)
    await nothing_held(world, buyer)


async def test_what_was_seen_does_not_go_back(world: World) -> None:
    """The requester has read half of it: it ends as `on_break` says, and never waits again."""
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    await world.seller("half", scripts.fault_after, terms=[chat_terms(10)])
    for on_break in ("fail", "resume"):
        with pytest.raises(ProviderFailed):
            await ask(world, buyer, on_break=on_break)
        assert (await states(world, buyer))[0] == ("FAILED", "fault")
        assert await waits_of(world, await newest(world, buyer)) == []
    gate.answer()
    await running


@pytest.mark.parametrize(
    "wishes", [{"queue_seconds": 0}, {"allow_fallbacks": False}], ids=["no wait", "no second"]
)
async def test_who_did_not_want_to_wait_or_a_second_try_is_told_at_once(
    world: World, wishes: dict[str, Any]
) -> None:
    await refusing(world)
    buyer = await world.buyer()
    with pytest.raises(ProviderFailed, match="busy"):
        await ask(world, buyer, **wishes)
    assert await states(world, buyer) == [("FAILED", "busy")]
    assert await waits_of(world, await newest(world, buyer)) == []
    await nothing_held(world, buyer)


async def test_whose_money_is_gone_when_it_comes_again_is_refused(world: World) -> None:
    _, device = await refusing(world, jobs=2, price_cents=DEAR_CENTS)
    payer = await world.buyer(150)
    asking = await sent_back(world, payer)
    # What was held is free again while it waits, and another request takes it.
    other = await narrow_market(world, model="another", price_cents=DEAR_CENTS)
    spending = asyncio.ensure_future(ask(world, payer, model="another"))
    await until(lambda: len(other.jobs) == 1)
    device.busy = False
    with pytest.raises(PaymentRequired):
        await asking
    assert ("FAILED", "insufficient_funds") in await states(world, payer)
    assert device.jobs[1:] == []  # but for the test of its registration
    other.answer()
    await spending
    await world.no_holds()


@pytest.mark.usefixtures("long_rest")
async def test_a_way_back_whose_commit_was_not_heard_of_is_gone_once(world: World) -> None:
    gate, device = await refusing(world)
    buyer = await world.buyer()
    database = flaky(world)

    def offered() -> None:
        database.lose_commits = 1
        device.offered = None

    device.offered = offered
    asking = await sent_back(world, buyer)
    mine = await newest(world, buyer)
    await until(lambda: database.lose_commits == 0)
    assert await attempts_of(world, mine) == [(1, "busy", "voided")]
    device.busy = False
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    assert (await asking).state is State.COMPLETED
    assert len(await waits_of(world, mine)) == len(await attempts_of(world, mine)) - 1
    await world.no_holds()


@pytest.mark.usefixtures("long_rest")
async def test_a_way_back_waits_for_a_database_that_is_away(world: World) -> None:
    _, device = await refusing(world)
    buyer = await world.buyer()
    database = flaky(world)
    device.offered = lambda: setattr(database, "down", True)
    asking = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: database.refused > 2)
    mine = await newest(world, buyer)
    assert await attempts_of(world, mine) == [(1, "dispatched", "pending")]
    device.offered = None
    database.down = False
    async with asyncio.timeout(5):
        while await rows(world) == 0:
            await asyncio.sleep(0.01)
    assert await attempts_of(world, mine) == [(1, "busy", "voided")]
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_what_the_reconciler_ended_first_does_not_wait_again(world: World) -> None:
    _, device = await refusing(world)
    buyer = await world.buyer()
    database = flaky(world)
    device.offered = lambda: setattr(database, "down", True)
    asking = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: database.refused > 0)
    following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
    assert await following.run_once() == 1
    device.offered = None
    database.down = False
    with pytest.raises(Timeout):
        await asking
    assert await states(world, buyer) == [("FAILED", "server_lost")]
    assert await rows(world) == waiting(world) == 0
    await nothing_held(world, buyer)


@pytest.mark.usefixtures("long_rest")
async def test_what_a_dead_boot_had_sent_back_is_ended(world: World) -> None:
    await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    mine = await newest(world, buyer)
    for task in list(world.market._serving._tasks):
        task.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert await world.reconciler.run_once() == 0  # the control: this boot is alive
    following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
    assert await following.run_once() == 1
    assert await states(world, buyer) == [("FAILED", "server_lost")]
    assert await attempts_of(world, mine) == [(1, "busy", "voided")]
    assert await rows(world) == 0
    await nothing_held(world, buyer)


async def test_a_server_that_stops_tells_those_who_were_sent_back(world: World) -> None:
    await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    stopping = asyncio.ensure_future(world.market.stop(30))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(asking, 10)
    await stopping
    assert await states(world, buyer) == [("FAILED", "unavailable")]
    await nothing_held(world, buyer)


async def test_the_wait_counts_once_for_all_its_stays(world: World) -> None:
    """It waited for a slot, was sent to it, refused, and waits for what is left of its time."""
    gate = await narrow_market(world)
    device = world.providers[-1]
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = await queued(world, lambda: ask(world, buyer, queue_seconds=3))
    mine = await newest(world, buyer)
    await asyncio.sleep(1.5)
    device.busy = True
    gate.answer()
    with pytest.raises(NoProvider):
        await asking
    assert loop.time() - began < 3 + 3
    reasons = [reason for reason, _, _, _ in await waits_of(world, mine)]
    assert reasons[0] == "busy"
    assert set(reasons[1:]) == {"refused"}
    await running
    await world.no_holds()
