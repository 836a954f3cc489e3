"""What a seller sets: when he takes work and how much of it, and what that does to his standing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.marketplace.test_work import provider_of
from tests.marketplace.world import MODEL, Provider, World, chat, chat_terms, good, silent
from yggdrasil.errors import NoProvider
from yggdrasil.kernel import Market
from yggdrasil.marketplace.hours import window
from yggdrasil.marketplace.requests import Offer


def offer_of(world: World, seller: Provider, model: str = MODEL) -> Offer:
    return next(
        offer
        for offer in world.market.routing.visible(seller.scope)
        if offer.device == seller.device and offer.model == model
    )


async def change(world: World, seller: Provider, **changes: Any) -> Any:
    given = {"audience": None, "status": None, "capacity_jobs": None, "terms": None} | changes
    return await world.market.update_provider(seller.scope, await provider_of(world, seller), **given)


@pytest.mark.parametrize("status", ["paused", "draining"])
async def test_pausing_and_draining_take_no_new_work_and_cost_no_reputation(
    world: World, status: str
) -> None:
    seller = await world.seller("pc")
    buyer = await world.buyer()
    await (await world.market.run(buyer, chat())).outcome()
    seller.behaviour = silent
    running = await world.market.run(buyer, chat())
    await seller.got_job.wait()
    before = world.market.routing.standing(offer_of(world, seller))
    view = await change(world, seller, status=status)
    assert (view.status, view.jobs_running) == (status, 1)
    with pytest.raises(NoProvider):
        await world.market.run(buyer, chat())
    job = seller.jobs[-1]
    good(seller, job)
    seller.pump()
    assert (await running.outcome()).answer["choices"][0]["message"]["content"]
    assert (await world.market.selling.provider(seller.scope, view.provider_id)).jobs_running == 0
    seller.leave()
    after = world.market.routing.standing(offer_of(world, seller))
    assert after.availability >= before.availability
    await seller.dial()
    seller.behaviour = good
    await change(world, seller, status="active")
    await (await world.market.run(buyer, chat())).outcome()


async def test_work_that_was_on_its_way_when_it_was_paused_costs_nothing(world: World) -> None:
    seller = await world.seller("pc")
    buyer = await world.buyer()
    before = world.market.routing.standing(offer_of(world, seller))
    seller.busy = True

    def pause() -> None:
        offer = offer_of(world, seller)
        world.market.routing.put(replace(offer, status="paused"), online=True)

    seller.offered = pause
    run = await world.market.run(buyer, chat())
    with pytest.raises(Exception, match="busy"):
        await run.outcome()
    assert world.market.routing.standing(offer_of(world, seller)).availability == before.availability


async def test_hours_open_and_close_an_offer(world: World) -> None:
    seller = await world.seller("pc")
    buyer = await world.buyer()
    # The clock stands at midnight of a Thursday in UTC.
    await change(world, seller, hours=(window(["thu"], "03:00", "05:00"),), zone="Europe/Berlin")
    with pytest.raises(NoProvider):
        await world.market.run(buyer, chat())
    assert world.market.models(buyer) == []
    world.clock.advance(2 * 3_600)
    await world.market.epochs.run_once()
    await (await world.market.run(buyer, chat())).outcome()
    world.clock.advance(2 * 3_600)
    await world.market.epochs.run_once()
    with pytest.raises(NoProvider):
        await world.market.run(buyer, chat())
    # They are in the books, for the next boot.
    again = world.make_market(world.node)
    await again.start()
    try:
        assert not again.routing.takes_work(offer_of(world, seller))
    finally:
        await again.stop(0)
    view = await change(world, seller, hours=())
    assert view.hours == []
    await (await world.market.run(buyer, chat())).outcome()


async def test_the_offers_of_a_device_share_its_slots(world: World) -> None:
    terms = [chat_terms(model=name) for name in ("one", "two")]
    seller = await world.seller("pc", silent, terms=terms)
    await change(world, seller, capacity_jobs=2)
    buyer = await world.buyer()
    for model in ("one", "two"):
        await world.market.run(buyer, chat(model=model))
    with pytest.raises(NoProvider, match="busy"):
        await world.market.run(buyer, chat(model="two"))
    await asyncio.sleep(0)
    assert len(seller.jobs) == 2


async def test_a_model_may_take_fewer_jobs_than_its_device(world: World) -> None:
    terms = [chat_terms(model="one", capacity_jobs=1), chat_terms(model="two")]
    await world.seller("pc", silent, terms=terms)
    buyer = await world.buyer()
    await world.market.run(buyer, chat(model="one"))
    with pytest.raises(NoProvider, match="busy"):
        await world.market.run(buyer, chat(model="one"))
    for _ in range(3):
        await world.market.run(buyer, chat(model="two"))


async def test_an_offer_answers_no_longer_than_it_says(world: World) -> None:
    seller = await world.seller("pc", terms=[chat_terms(output_tokens_max=50)])
    buyer = await world.buyer()
    with pytest.raises(NoProvider, match="context"):
        await world.market.run(buyer, chat(max_tokens=51))
    await (await world.market.run(buyer, chat(max_tokens=50))).outcome()
    await (await world.market.run(buyer, chat(max_tokens=None))).outcome()
    assert json.loads(seller.jobs[-1].body)["max_tokens"] == 50


async def test_the_middle_of_the_market_scores_one_half(world: World) -> None:
    for name, price in (("cheap", 10), ("middle", 200), ("dear", 900)):
        await world.seller(name, terms=[chat_terms(price)])
    buyer = await world.buyer(100_000)

    async def parts() -> dict[int, float]:
        run = await world.market.run(buyer, chat())
        await run.outcome()
        view = await world.market.transaction(buyer, run.transaction_id)
        chosen = next(one for one in view.decision_card["candidates"] if one["chosen"])
        return {view.price_cents: chosen["parts"]["price"]}

    assert max((await parts()).values()) < 0.05
    await world.market.epochs.run_once()
    seen = await parts()
    expected = {10: 200 / 210, 200: 0.5, 900: 200 / 1_100}
    for price, part in seen.items():
        assert part == pytest.approx(expected[price], abs=0.01)
    # The next boot begins where this one was.
    async with world.database.transaction(Market()) as tx:
        stored = await tx.fetchval("SELECT price_reference_microcents FROM platform.models")
    assert stored == 200 * 1_000_000 * 1_000
