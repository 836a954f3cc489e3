"""A registration is decided, kept and appealed against on the real market."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.marketplace.world import Provider, World, chat, chat_terms, empty, good, lying
from yggdrasil.errors import Conflict, LimitReached, NotFound, ProviderFailed
from yggdrasil.marketplace.hours import window
from yggdrasil.nornen.service import APPEALS_PER_HOUR_MAX, Nornen
from yggdrasil.nornen.store import Registration


@pytest.fixture
def nornen(world: World) -> Nornen:
    return Nornen(world.database, world.market, world.clock, world.ids)


async def newest(nornen: Nornen, device: Provider) -> Registration:
    page = await nornen.registrations(device.scope, limit=1, cursor=None)
    found: Registration = page.items[0]
    return found


async def refused(world: World, nornen: Nornen) -> tuple[Provider, Registration]:
    device = await world.device(await world.person(), "pc")
    await world.method(device.scope)
    device.behaviour = empty
    with pytest.raises(ProviderFailed, match="its answer is empty") as caught:
        await world.register(device)
    decision = await newest(nornen, device)
    assert str(decision.registration_id) in caught.value.detail
    return device, decision


async def test_an_accepted_registration_is_kept_with_its_facts(world: World, nornen: Nornen) -> None:
    seller = await world.seller("pc", terms=[chat_terms(), chat_terms(model="second")])
    decision = await newest(nornen, seller)
    assert (decision.verdict, decision.reasons, decision.appeal_of) == ("accepted", [], None)
    assert [fact.model for fact in decision.facts] == ["tiny-chat", "second"]
    assert all(fact.answered and fact.observed_tokens > 5 for fact in decision.facts)
    assert decision.asked.device_id == "pc"
    with pytest.raises(Conflict, match="accepted"):
        await nornen.appeal(seller.scope, decision.registration_id)


async def test_a_refusal_says_why_and_an_appeal_tests_again(world: World, nornen: Nornen) -> None:
    device, decision = await refused(world, nornen)
    assert decision.verdict == "refused"
    assert [(one.rule, one.model) for one in decision.reasons] == [("no_answer", "tiny-chat")]
    buyer = await world.buyer()
    assert world.market.models(buyer) == []
    again = await nornen.appeal(device.scope, decision.registration_id)
    assert (again.verdict, again.appeal_of) == ("refused", decision.registration_id)
    device.behaviour = good
    world.clock.advance(1)
    last = await nornen.appeal(device.scope, decision.registration_id)
    assert (last.verdict, last.asked) == ("accepted", decision.asked)
    assert (await (await world.market.run(buyer, chat())).outcome()).attempts == 1
    with pytest.raises(Conflict, match="already"):
        await nornen.appeal(device.scope, decision.registration_id)


async def test_an_appeal_asks_for_the_same_terms(world: World, nornen: Nornen) -> None:
    device = await world.device(await world.person(), "pc")
    device.behaviour = empty
    hours = (window(["mon"], "22:00", "06:00"),)
    terms = [replace(chat_terms(7), output_tokens_max=99, capacity_jobs=2)]
    with pytest.raises(ProviderFailed):
        await world.market.register_provider(
            device.scope,
            device_id="pc",
            audience="own",
            capacity_jobs=3,
            terms=terms,
            hours=hours,
            zone="Asia/Tokyo",
        )
    device.behaviour = good
    await nornen.appeal(device.scope, (await newest(nornen, device)).registration_id)
    offer = next(iter(world.market.routing.visible(device.scope)))
    assert (offer.audience, offer.price_cents, offer.output_tokens_max) == ("own", 7, 99)
    assert (offer.model_capacity_jobs, offer.capacity_jobs) == (2, 3)
    assert (offer.hours, offer.zone) == (hours, "Asia/Tokyo")


async def test_a_device_that_claims_too_much_is_refused(world: World, nornen: Nornen) -> None:
    device = await world.device(await world.person(), "pc")
    device.behaviour = lying
    with pytest.raises(ProviderFailed, match="claims"):
        await world.register(device, audience="own")
    assert (await newest(nornen, device)).reasons[0].rule == "claims_too_much"


async def test_decisions_are_their_persons_alone(world: World, nornen: Nornen) -> None:
    device, decision = await refused(world, nornen)
    for other in (await world.person(), await world.person(device.scope)):
        assert (await nornen.registrations(other, limit=10, cursor=None)).items == []
        for asked in (decision.registration_id, UUID(int=1)):
            with pytest.raises(NotFound):
                await nornen.registration(other, asked)
            with pytest.raises(NotFound):
                await nornen.appeal(other, asked)


async def test_appeals_are_limited_and_decisions_paged(world: World, nornen: Nornen) -> None:
    device, decision = await refused(world, nornen)
    for _ in range(APPEALS_PER_HOUR_MAX):
        world.clock.advance(1)
        await nornen.appeal(device.scope, decision.registration_id)
    with pytest.raises(LimitReached):
        await nornen.appeal(device.scope, decision.registration_id)
    seen, cursor = [], None
    while True:
        page = await nornen.registrations(device.scope, limit=4, cursor=cursor)
        seen += [one.registration_id for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 1 + APPEALS_PER_HOUR_MAX
    assert seen[-1] == decision.registration_id
    world.clock.advance(3_600)
    await nornen.appeal(device.scope, decision.registration_id)
