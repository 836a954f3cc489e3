"""Why do I get no work: counts by reason, hour and provider, and nothing of other networks in them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests.marketplace.world import Provider, World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import NoProvider, NotFound
from yggdrasil.kernel import Network
from yggdrasil.marketplace.breakdown import HourView, WorkView, coarse


async def provider_of(world: World, seller: Provider) -> str:
    async with world.database.transaction(seller.scope) as tx:
        found = await tx.fetchval(
            "SELECT id FROM tenant.providers WHERE network_id = $1 AND device = $2",
            seller.scope.network_id,
            seller.device,
        )
    return str(found)


async def ask(world: World, buyer: Network, times: int, **wishes: Any) -> None:
    for _ in range(times):
        with contextlib.suppress(NoProvider):
            await (await world.market.run(buyer, chat(**wishes))).outcome()


async def work(world: World, seller: Provider) -> WorkView:
    """The view after the hour is over."""
    world.market.routing.count(world.market.work)
    world.clock.advance(3_600)
    await world.market.epochs.run_once()
    return await world.market.selling.work(seller.scope, await provider_of(world, seller), 24)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, 0),
        (1, 1),
        (9, 1),
        (10, 10),
        (19, 10),
        (49, 20),
        (99, 50),
        (100, 100),
        (999, 500),
        (12_345, 10_000),
    ],
)
def test_counts_are_rounded_down(count: int, shown: int) -> None:
    assert coarse(count) == shown


async def test_a_dear_provider_hears_that_the_price_is_the_reason(world: World) -> None:
    cheap = await world.seller("cheap", terms=[chat_terms(1)])
    dear = await world.seller("dear", terms=[chat_terms(500)])
    await world.market.epochs.run_once()
    await ask(world, await world.buyer(), 40)
    seen = await work(world, dear)
    assert seen.total.asked == 20
    assert seen.total.fair_share == 20
    assert max(seen.total.missed, key=lambda reason: seen.total.missed[reason]) == "price"
    other = await work(world, cheap)
    assert other.total.got > seen.total.got
    assert other.total.got + seen.total.got == 40


async def test_each_gate_has_its_own_count(world: World) -> None:
    seller = await world.seller("pc")
    name = await provider_of(world, seller)
    buyer = await world.buyer()
    await ask(world, buyer, 1, max_price_cents=1)
    await ask(world, buyer, 1, model="something-else")
    await ask(world, buyer, 1, max_tokens=8_192)
    await world.market.update_provider(
        seller.scope, name, audience=None, status="paused", capacity_jobs=None, terms=None
    )
    await ask(world, buyer, 1)
    await world.market.update_provider(
        seller.scope, name, audience=None, status="active", capacity_jobs=None, terms=None
    )
    world.market.routing.count(world.market.work)
    seller.leave()
    await ask(world, buyer, 1)
    seen = await work(world, seller)
    assert set(seen.total.missed) == {"max_price", "other_model", "context", "closed", "online"}
    assert (seen.total.asked, seen.total.got) == (1, 0)
    assert seen.now == {"chat/tiny-chat": "offline"}


async def test_an_hour_is_shown_when_it_is_over_and_outlives_the_server(world: World) -> None:
    seller = await world.seller("pc")
    name = await provider_of(world, seller)
    await ask(world, await world.buyer(), 3)
    await world.market.epochs.run_once()
    running = await world.market.selling.work(seller.scope, name, 24)
    assert (running.hours, running.total.got) == ([], 0)
    await world.market.epochs.stop()
    await ask(world, await world.buyer(), 2)
    seen = await work(world, seller)
    assert [hour.got for hour in seen.hours] == [5]
    world.clock.advance(3_600 * 24 * 8)
    await ask(world, await world.buyer(), 1)
    assert [hour.got for hour in (await work(world, seller)).hours] == [1]


async def test_the_job_writes_for_every_network_and_forgets_after_a_week(world: World, admin: Login) -> None:
    sellers = [await world.seller(f"pc-{n}") for n in range(2)]
    await ask(world, await world.buyer(), 2)
    for seller in sellers:
        await work(world, seller)
    sql = "SELECT DISTINCT network_id FROM tenant.provider_work"
    found = {row["network_id"] for row in await as_superuser(world.database, admin, sql)}
    assert found == {seller.scope.network_id for seller in sellers}
    world.clock.advance(3_600 * 24 * 8)
    await ask(world, await world.buyer(), 1)
    sellers[0].leave()
    await work(world, sellers[1])
    hours = await as_superuser(world.database, admin, "SELECT DISTINCT hour FROM tenant.provider_work")
    assert len(hours) == 1


async def test_other_networks_see_nothing_and_requests_at_home_are_no_demand_of_the_market(
    world: World,
) -> None:
    seller = await world.seller("pc")
    stranger = await world.person()
    with pytest.raises(NotFound):
        await world.market.selling.work(stranger, await provider_of(world, seller), 24)
    own = await world.device(await world.person(), "own")
    await world.register(own, audience="own")
    await ask(world, await world.buyer(), 5)
    await ask(world, own.scope, 2, scope="own")
    seen = await work(world, own)
    assert seen.total == HourView(asked=1, got=2, fair_share=1, missed={})


async def test_a_seller_who_buys_other_models_is_not_told_of_his_own_demand(world: World) -> None:
    seller = await world.seller("pc")
    await ask(world, seller.scope, 3, model="something-else")
    await ask(world, await world.buyer(), 1)
    seen = await work(world, seller)
    assert seen.total.missed == {}
    assert seen.total.got == 1


async def test_replaced_reasons_of_equals_are_turns(world: World) -> None:
    sellers = [await world.seller(f"pc-{n}") for n in range(3)]
    await ask(world, await world.buyer(), 12)
    views = [await work(world, seller) for seller in sellers]
    assert sum(view.total.got for view in views) == 12
    # Whoever was asked more is known better: what is learnt of equals may differ, their price does not.
    learnt = {"fairness", "quality", "availability", "latency"}
    assert all(set(view.total.missed) <= {"turn", "chance", *learnt} for view in views)
