"""Registering and testing providers, who sees what, presence, restarts; failover with money in it."""

from __future__ import annotations

import asyncio

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.world import MODEL, Node, World, chat, chat_terms, embed_terms
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import (
    Conflict,
    Forbidden,
    LimitReached,
    NoProvider,
    NotFound,
    PaymentMethodRequired,
    ProviderFailed,
    Unavailable,
)
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.shown import OfferView


def seen(world: World, scope: scripts.Network) -> list[OfferView]:
    return list(world.market.offers(scope, model=None, within=None, limit=100, cursor=None).items)


@pytest.mark.parametrize(
    "behaviour",
    [scripts.fault_first, scripts.garbage, scripts.empty, scripts.disconnect, scripts.fault_after],
)
async def test_a_device_that_fails_its_test_is_no_provider(
    world: World, behaviour: scripts.Behaviour
) -> None:
    owner = await world.person()
    device = await world.device(owner)
    device.behaviour = behaviour
    with pytest.raises(ProviderFailed) as caught:
        await world.register(device, audience="own")
    assert MODEL in caught.value.detail
    assert seen(world, owner) == []
    if behaviour is not scripts.disconnect:
        device.behaviour = scripts.good
        await world.register(device, audience="own", terms=[chat_terms(), embed_terms()])
        assert len(seen(world, owner)) == 2


async def test_who_may_register(world: World) -> None:
    owner = await world.person()
    mate = await world.person(owner)
    stranger = await world.person()
    device = await world.device(mate)
    for scope, error in ((owner, Forbidden), (stranger, NotFound)):
        with pytest.raises(error):
            await world.market.register_provider(
                scope, device_id=device.name, audience="own", capacity_jobs=1, terms=[chat_terms()]
            )
    with pytest.raises(PaymentMethodRequired):
        await world.register(device, audience="market")
    assert device.jobs == []
    device.busy = True
    with pytest.raises(Conflict):
        await world.register(device, audience="own")
    device.busy = False
    made = await world.register(device, audience="own")
    with pytest.raises(Conflict):
        await world.register(device, audience="own")
    with pytest.raises(NotFound):
        await world.market.provider(owner, str(made.provider_id))


async def test_each_sees_what_is_for_him(world: World) -> None:
    owner = await world.person()
    await world.method(owner)
    mate = await world.person(owner)
    stranger, other = await world.person(), await world.person()
    for audience in ("own", "network", "market"):
        device = await world.device(owner, audience)
        await world.register(device, audience=audience, terms=[chat_terms(model=audience)])
    assert [(view.model, view.scope) for view in seen(world, owner)] == [
        ("market", "own"),
        ("network", "own"),
        ("own", "own"),
    ]
    assert [(view.model, view.scope) for view in seen(world, mate)] == [
        ("market", "network"),
        ("network", "network"),
    ]
    assert [(view.model, view.scope) for view in seen(world, stranger)] == [("market", "market")]
    names = {
        next(view.offer for view in seen(world, who) if view.model == "market")
        for who in (owner, stranger, other)
    }
    assert len(names) == 3
    theirs = seen(world, stranger)[0]
    assert (theirs.provider_id, theirs.status, theirs.capacity_jobs) == (None, None, None)


async def test_pages_of_offers(world: World) -> None:
    device = await world.device(await world.person())
    terms = [chat_terms(price, model=f"m{index}") for index, price in enumerate((30, 5, 100, 7, 7))]
    await world.register(device, audience="own", terms=terms)
    models: list[str] = []
    cursor = None
    while True:
        page = world.market.offers(device.scope, model=None, within="own", limit=2, cursor=cursor)
        models += [view.model for view in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert models == ["m0", "m1", "m2", "m3", "m4"]


async def test_offers_follow_their_device(world: World) -> None:
    seller = await world.seller()
    stranger = await world.buyer()
    assert len(seen(world, stranger)) == 1
    seller.leave()
    assert seen(world, stranger) == []
    assert [view.online for view in seen(world, seller.scope)] == [False]
    await seller.dial()
    assert len(seen(world, stranger)) == 1
    await world.devices.remove(seller.scope, seller.name)
    assert seen(world, stranger) == seen(world, seller.scope) == []
    with pytest.raises(NoProvider):
        await world.market.run(stranger, chat())


async def test_a_restart_remembers_offers_and_what_they_were_worth(world: World) -> None:
    liar = await world.seller("liar", scripts.lying)
    buyer = await world.buyer()
    for _ in range(3):
        await (await world.market.run(buyer, chat())).outcome()
        world.clock.advance(1)
    before = world.market.routing
    offer = next(iter(before.visible(liar.scope)))
    again = world.make_market(Node(world.node.node_id, world.ids.uuid()))
    await again.start()
    try:
        found = again.routing.offer(offer.id)
        assert found is not None
        assert again.routing.online(found)
        old, new = before.standing(offer), again.routing.standing(found)
        assert new.quality == pytest.approx(old.quality, abs=0.01)
        assert new.weight == pytest.approx(old.weight, abs=0.01)
        assert (await (await again.run(buyer, chat())).outcome()).state is State.COMPLETED
    finally:
        await again.stop()
    await world.no_holds()


async def test_failover_to_a_dearer_offer_holds_more(world: World, admin: Login) -> None:
    await world.seller("cheap", scripts.fault_first, terms=[chat_terms(1)])
    dear = await world.seller("dear", terms=[chat_terms(400)])
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    finished = await run.outcome()
    books = await world.no_holds()
    assert books.cost_microcents == finished.cost_microcents
    if finished.attempts == 2:
        rows = await as_superuser(world.database, admin, "SELECT state FROM tenant.holds ORDER BY state")
        assert [row["state"] for row in rows] == ["posted", "voided"]
    view = await world.market.transaction(buyer, run.transaction_id)
    assert view.price_cents == 400
    assert len(dear.jobs) == 1


async def test_an_offer_without_payout_is_passed_over(world: World) -> None:
    unpaid = await world.seller("unpaid", terms=[chat_terms(1)])
    buyer = await world.buyer()
    for method in await world.payments.list_methods(unpaid.scope):
        await world.payments.remove_method(unpaid.scope, method.method_id)
    with pytest.raises(NoProvider):
        await world.market.run(buyer, chat())
    good = await world.seller("good", terms=[chat_terms(2)])
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert finished.state is State.COMPLETED
    assert (len(unpaid.jobs), len(good.jobs)) == (0, 1)
    await world.no_holds()


@pytest.mark.parametrize("committed", [False, True])
async def test_a_database_that_was_away_at_settlement_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    await world.seller()
    buyer = await world.buyer()
    real = Records._finish_once
    calls = 0

    async def flaky(self: Records, *args: object) -> object:
        nonlocal calls
        calls += 1
        if calls < 3:
            if committed:
                await real(self, *args)  # type: ignore[arg-type]
            raise Unavailable("the database connection was lost")
        return await real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "_finish_once", flaky)
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert calls == 3
    assert finished.state is State.COMPLETED
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0


async def test_many_at_once_add_up(world: World) -> None:
    for name in ("a", "b"):
        device = await world.seller(name)
        await world.market.update_provider(
            device.scope,
            str(next(view.provider_id for view in seen(world, device.scope) if view.mine)),
            audience=None,
            status=None,
            capacity_jobs=64,
            terms=None,
        )
    buyers = [await world.buyer() for _ in range(3)]
    runs = await asyncio.gather(*(world.market.run(buyers[n % 3], chat()) for n in range(24)))
    finished = await asyncio.gather(*(run.outcome() for run in runs))
    assert {one.state for one in finished} == {State.COMPLETED}
    assert (await world.no_holds()).cost_microcents == sum(one.cost_microcents for one in finished)


async def test_one_person_has_a_limit_of_requests(world: World) -> None:
    world.market._serving._settings = scripts.replace(world.settings, runs_per_user_max=1)
    await world.seller(behaviour=scripts.silent)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    with pytest.raises(LimitReached):
        await world.market.run(buyer, chat())
    run.close()
    await asyncio.gather(*world.market._serving._tasks)
    again = await world.market.run(buyer, chat())
    again.close()
    await asyncio.gather(*world.market._serving._tasks)
    await world.no_holds()
