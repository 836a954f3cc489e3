"""A device that answers `busy` after the dispatch, with nobody else free: the request waits again, in its
place, with nothing held, and every try of it stays in the books."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.queue_market import (
    ask,
    attempts_of,
    narrow_market,
    newest,
    nothing_held,
    queued,
    refusing,
    rows,
    sent_back,
    until,
    waiting,
    waits_of,
)
from tests.marketplace.world import World, chat, chat_terms
from yggdrasil.kernel import Network
from yggdrasil.marketplace.requests import State


@pytest.mark.usefixtures("long_rest")
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


@pytest.mark.usefixtures("long_rest")
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
