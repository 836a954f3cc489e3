"""A device that answers `busy` after the dispatch, with nobody else free: the request waits again, in its
place, with nothing held, and every try of it stays in the books."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.flaky import flaky
from tests.marketplace.queue_market import (
    DEAR_CENTS,
    Gate,
    ask,
    narrow_market,
    queued,
    rows,
    states,
    until,
    waiting,
)
from tests.marketplace.world import Node, Provider, World, chat, chat_terms
from yggdrasil.errors import (
    Conflict,
    NoProvider,
    PaymentRequired,
    ProviderFailed,
    Timeout,
    Unavailable,
)
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace import refusals
from yggdrasil.marketplace.requests import State

Attempts = list[tuple[int, str, str | None]]


async def attempts_of(world: World, request: UUID) -> Attempts:
    """(ordinal, state, how its hold ended), in order."""
    async with world.database.transaction(System("test")) as tx:
        found = await tx.fetch(
            "SELECT a.ordinal, a.state, h.state AS hold FROM platform.attempts a"
            " LEFT JOIN tenant.holds h ON h.network_id = a.requester_network AND h.hold_id = a.hold_id"
            " WHERE a.requester_transaction = $1 ORDER BY a.ordinal",
            request,
        )
    return [(row["ordinal"], row["state"], row["hold"]) for row in found]


async def waits_of(world: World, request: UUID) -> list[tuple[str, list[str], int, int]]:
    """(reason, gates, attempts before, turns ahead) of each stay in the queue."""
    async with world.database.transaction(System("test")) as tx:
        found = await tx.fetch(
            "SELECT reason, gates, attempts, ahead FROM platform.waits WHERE transaction_id = $1"
            " ORDER BY ordinal",
            request,
        )
    return [(row["reason"], row["gates"], row["attempts"], row["ahead"]) for row in found]


async def newest(world: World, who: Network) -> UUID:
    page = await world.market.transactions(who, side="requester", limit=1, cursor=None)
    found: UUID = page.items[0].transaction_id
    return found


async def refusing(world: World, *, jobs: int = 1, price_cents: int = 10) -> tuple[Gate, Provider]:
    """A seller that says it takes `jobs`, and refuses them all until it is `busy` no more."""
    gate = await narrow_market(world, jobs=jobs, price_cents=price_cents)
    device = world.providers[-1]
    device.busy = True
    return gate, device


async def sent_back(world: World, who: Network, **wishes: Any) -> asyncio.Task[Any]:
    """A request that a device has just refused, and that waits again."""
    return await queued(world, lambda: ask(world, who, **wishes))


async def nothing_held(world: World, who: Network) -> None:
    assert (await world.payments.balance(who)).wallet_held_microcents == 0
    await world.no_holds()


async def test_what_a_busy_device_refused_waits_and_is_served_when_it_has_room(world: World) -> None:
    gate, device = await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    mine = await newest(world, buyer)
    seen = await world.market.transaction(buyer, mine)
    assert (seen.state, seen.attempts, seen.total_microcents, seen.ended_at) == ("PENDING", 1, 0, None)
    assert await attempts_of(world, mine) == [(1, "busy", "voided")]
    await nothing_held(world, buyer)
    device.busy = False
    await until(lambda: len(gate.jobs) == 1)
    assert await rows(world) == waiting(world) == 0
    gate.answer()
    finished = await asking
    assert finished.state is State.COMPLETED
    tries = await attempts_of(world, mine)
    assert [state for _, state, _ in tries] == ["busy"] * (len(tries) - 1) + ["completed"]
    assert [ordinal for ordinal, _, _ in tries] == list(range(1, len(tries) + 1))
    assert (await world.market.transaction(buyer, mine)).attempts == finished.attempts == len(tries)
    assert await waits_of(world, mine) == [
        ("refused", ["capacity"], number + 1, 0) for number in range(len(tries) - 1)
    ]
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0


async def test_the_providers_side_says_that_it_refused_and_costs_nobody(world: World) -> None:
    _, device = await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    page = await world.market.transactions(device.scope, side="provider", limit=9, cursor=None)
    assert [(one.state, one.error_code, one.total_microcents) for one in page.items] == [
        ("FAILED", "busy", 0)
    ]
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


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


async def test_a_stream_hears_of_nothing_and_goes_on_when_it_is_served(world: World) -> None:
    gate, device = await refusing(world)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat(queue_seconds=30))
    reading = asyncio.ensure_future(collected(run))
    async with asyncio.timeout(5):
        while await rows(world) == 0:
            await asyncio.sleep(0.002)
    assert not reading.done()
    device.busy = False
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    parts = await reading
    assert len(parts) == 5 + 1 + 1
    await world.no_holds()


async def collected(run: Any) -> list[Any]:
    return [part async for part in run.parts()]


def said(job: scripts.JobReady) -> str:
    text: str = json.loads(job.body)["messages"][0]["content"]
    return text


async def test_it_keeps_its_place_before_all_who_came_later(world: World) -> None:
    """One job runs, a second slot is promised and not there. Who was refused is the next, whatever network
    the others are of."""
    gate = await narrow_market(world, jobs=2)
    device = world.providers[-1]
    buyers = [await world.buyer() for _ in range(3)]
    running = asyncio.ensure_future(say(world, buyers[0], "running"))
    await until(lambda: len(gate.jobs) == 1)
    device.busy = True
    refused = [await queued(world, lambda: say(world, buyers[0], "first"))]
    behind = []
    for who, text in ((0, "third"), (1, "fourth"), (2, "fifth")):
        behind.append(await queued(world, lambda who=who, text=text: say(world, buyers[who], text)))
    device.busy = False
    served = ["running"]
    for _ in range(4):
        gate.answer()
        await until(lambda: len(gate.jobs) >= 1)
        served.append(said(gate.jobs[0][1]))
    while not all(task.done() for task in (running, *refused, *behind)):
        if gate.jobs:
            gate.answer()
        await asyncio.sleep(0.01)
    assert served[1] == "first"
    for task in (running, *refused, *behind):
        assert (await task).state is State.COMPLETED
    await world.no_holds()


async def say(world: World, who: Network, text: str) -> Any:
    world.clock.advance(0.001)
    run = await world.market.run(who, chat(text, queue_seconds=30))
    return await run.outcome()


async def test_no_request_after_another_is_sent_to_a_device_that_refuses(world: World) -> None:
    """It promises eight slots and has one: a dozen of three networks are served one after another, and it was
    asked in vain a few times, not a dozen times for each."""
    gate = await narrow_market(world, jobs=8)
    buyers = [await world.buyer() for _ in range(3)]
    running = refused = 0

    def refuses() -> bool:
        nonlocal running, refused
        if running:
            refused += 1
            return True
        running += 1
        return False

    world.providers[-1].refuses = refuses
    asking = [asyncio.ensure_future(ask(world, buyers[number % 3])) for number in range(12)]
    for _ in range(12):
        await until(lambda: len(gate.jobs) == 1)
        await asyncio.sleep(0.05)
        running -= 1
        gate.answer()
    for finished in await asyncio.gather(*asking):
        assert finished.state is State.COMPLETED
    # All eight slots were tried at the start, before the first answer came; then one now and then.
    assert refused <= 7 + 6, refused
    assert waiting(world) == await rows(world) == 0
    await world.no_holds()


async def test_a_provider_that_failed_unseen_while_the_others_are_busy(world: World) -> None:
    """The broken one is not asked again; the busy one is waited for."""
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    broken = await world.seller("broken", scripts.fault_first, terms=[chat_terms(10)])
    asking = await sent_back(world, buyer)
    mine = await newest(world, buyer)
    assert await waits_of(world, mine) == [("failed", ["tried", "capacity"], 1, 0)]
    await nothing_held_but(world, buyer, 1)
    gate.answer()
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    assert (await asking).attempts == 2
    assert [state for _, state, _ in await attempts_of(world, mine)] == ["failed", "completed"]
    assert len(broken.jobs) == 1
    await running
    await world.no_holds()


async def nothing_held_but(world: World, who: Network, open_holds: int) -> None:
    """Of those that run."""
    assert (await world.books()).open_holds == open_holds


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
        await asyncio.wait_for(asking, 2)
    await stopping
    assert await states(world, buyer) == [("FAILED", "unavailable")]
    await nothing_held(world, buyer)


async def test_a_device_that_dials_again_is_asked_again_at_once(world: World) -> None:
    gate, device = await refusing(world)
    buyer = await world.buyer()
    asking = await sent_back(world, buyer)
    device.leave()
    device.busy = False
    loop = asyncio.get_running_loop()
    began = loop.time()
    world.market.routing.refusals._devices[device.scope.network_id, device.device].seconds = 60.0
    await device.dial()
    await until(lambda: len(gate.jobs) == 1)
    assert loop.time() - began < 5
    gate.answer()
    await asking


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
