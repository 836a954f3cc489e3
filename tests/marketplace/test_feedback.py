"""Feedback: once for each paid answer, for a day, bounded in its weight, and learnt from."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx
import pytest

from tests.marketplace import world as scripts
from tests.marketplace.test_rest import BODY, ROOT, bearer
from tests.marketplace.world import World, chat, chat_terms
from yggdrasil.errors import Conflict, InvalidInput, NotFound, ProviderFailed
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace.requests import Offer


def offer_of(world: World, device: scripts.Provider) -> Offer:
    (offer,) = [one for one in world.market.routing._offers.values() if one.device == device.device]
    return offer


async def bought(world: World, buyer: Network) -> UUID:
    return (await (await world.market.run(buyer, chat())).outcome()).transaction_id


async def weights(world: World) -> list[int]:
    async with world.database.transaction(System("test")) as tx:
        return [
            row[0] for row in await tx.fetch("SELECT weight_ppm FROM tenant.feedback ORDER BY created_at")
        ]


async def test_it_moves_the_quality_and_no_more_than_a_little(world: World) -> None:
    seller = await world.seller(terms=[chat_terms(1)])
    buyer, other = await world.buyer(), await world.buyer()
    offer = offer_of(world, seller)
    answers = [await bought(world, buyer) for _ in range(8)]
    before = world.market.routing.standing(offer)
    for transaction_id in answers:
        world.clock.advance(1)
        said = await world.market.feedback.give(buyer, transaction_id, 0.0, "wrong")
        assert (said.score, said.reason) == (0.0, "wrong")
    after = world.market.routing.standing(offer)
    assert after.quality < before.quality
    # Eight of them weigh as much as one answer seen by ourselves.
    assert await weights(world) == [250_000] * 4 + [0] * 4
    assert after.weight == pytest.approx(before.weight + 1, abs=0.01)
    # Another network has a weight of its own, and after a day the first has it again.
    theirs = await bought(world, other)
    await world.market.feedback.give(other, theirs, 1.0, None)
    world.clock.advance(86_401)
    again = await bought(world, buyer)
    await world.market.feedback.give(buyer, again, 1.0, None)
    assert (await weights(world))[-2:] == [250_000] * 2


async def test_once_and_for_a_day(world: World) -> None:
    await world.seller()
    buyer = await world.buyer()
    first, late = await bought(world, buyer), await bought(world, buyer)
    given = [world.market.feedback.give(buyer, first, 0.5, None) for _ in range(5)]
    outcomes = await asyncio.gather(*given, return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict"] * 4 + ["FeedbackView"]
    world.clock.advance(world.market.settings.feedback_seconds + 1)
    with pytest.raises(Conflict):
        await world.market.feedback.give(buyer, late, 0.5, None)
    assert len(await weights(world)) == 1


async def test_only_ones_own_paid_answers(world: World) -> None:
    seller = await world.seller()
    buyer = await world.buyer()
    mate = await world.person(buyer)
    transaction_id = await bought(world, buyer)
    (sold,) = (await world.market.transactions(seller.scope, side=None, limit=9, cursor=None)).items
    for who, what in (
        (mate, transaction_id),
        (seller.scope, transaction_id),
        (seller.scope, sold.transaction_id),
    ):
        with pytest.raises(NotFound):
            await world.market.feedback.give(who, what, 0.0, None)
    with pytest.raises(NotFound):
        await world.market.feedback.give(buyer, world.ids.uuid(), 0.0, None)
    seller.behaviour = scripts.fault_first
    run = await world.market.run(buyer, chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    with pytest.raises(Conflict):
        await world.market.feedback.give(buyer, run.transaction_id, 0.0, None)
    for score, reason in ((1.1, None), (-0.1, None), (float("nan"), None), (1.0, ""), (1.0, "x" * 501)):
        with pytest.raises(InvalidInput):
            await world.market.feedback.give(buyer, transaction_id, score, reason)
    assert await weights(world) == []


async def test_what_was_said_is_remembered_of_all_networks(world: World) -> None:
    sellers = [await world.seller(f"pc-{n}", terms=[chat_terms(1, model=f"m-{n}")]) for n in range(2)]
    for n in range(2):
        buyer = await world.buyer()
        run = await world.market.run(buyer, chat(model=f"m-{n}"))
        await world.market.feedback.give(buyer, (await run.outcome()).transaction_id, 0.0, None)
    market = world.make_market(world.node)
    for seller in sellers:
        market.routing.put(offer_of(world, seller), online=True)
    unrated = market.routing.standing(offer_of(world, sellers[0]))
    assert await market.feedback.recall() == 2
    for seller in sellers:
        assert market.routing.standing(offer_of(world, seller)).quality < unrated.quality


async def test_over_rest(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    buyer = await world.buyer()
    me = bearer(world, buyer)
    made = await http.post(f"{ROOT}/requests", json={"kind": "chat", "request": BODY}, headers=me)
    path = f"{ROOT}/requests/{made.headers['x-yggdrasil-transaction']}/feedback"
    for bad in ({}, {"score": 2}, {"score": "1"}, {"score": 1, "reason": ""}, {"score": 1, "stars": 5}):
        assert (await http.post(path, json=bad, headers=me)).status_code == 400
    said = await http.post(path, json={"score": 0.75, "reason": "fine"}, headers=me)
    assert said.status_code == 201
    assert said.json()["score"] == 0.75
    assert (await http.post(path, json={"score": 1}, headers=me)).status_code == 409
    stranger = bearer(world, await world.buyer())
    foreign = await http.post(path, json={"score": 1}, headers=stranger)
    absent = await http.post(
        f"{ROOT}/requests/{world.ids.uuid()}/feedback", json={"score": 1}, headers=stranger
    )
    assert (foreign.status_code, foreign.content) == (404, absent.content)
