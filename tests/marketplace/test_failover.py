"""Another provider takes over while nothing was seen. The first pick is certain: nobody else is there yet."""

from __future__ import annotations

import asyncio

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.flaky import flaky
from tests.marketplace.world import World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import ProviderFailed, Timeout
from yggdrasil.kernel import Network
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.run import Finished

FIRST_CENTS = 10


async def pinned(world: World, first: scripts.Behaviour | None, *prices: int) -> list[scripts.Provider]:
    """One seller that is certainly picked first, and others that come when it is offered the job."""
    sellers = [await world.seller("first", terms=[chat_terms(FIRST_CENTS)])]
    for number, price in enumerate(prices):
        sellers.append(await world.seller(f"next-{number}", terms=[chat_terms(price)]))

    def present(online: bool) -> None:
        for other in sellers[1:]:
            world.market.routing.presence(other.scope.network_id, other.device, online)

    present(False)
    if first is None:
        sellers[0].busy = True
    else:
        sellers[0].behaviour = first
    sellers[0].offered = lambda: present(True)
    return sellers


async def books_of(world: World, admin: Login) -> tuple[list[str], list[str]]:
    """(states of the attempts, states of the holds), in order."""
    attempts = await as_superuser(
        world.database, admin, "SELECT state FROM platform.attempts ORDER BY ordinal"
    )
    holds = await as_superuser(world.database, admin, "SELECT state FROM tenant.holds ORDER BY state DESC")
    return [str(row["state"]) for row in attempts], [str(row["state"]) for row in holds]


FAULTS: dict[str, scripts.Behaviour | None] = {
    "busy": None,
    "fault": scripts.fault_first,
    "garbage": scripts.garbage,
    "lost socket": scripts.disconnect,
    "silence": scripts.silent,
    "a role and a fault": scripts.role_then_fault,
}


@pytest.mark.parametrize("price_cents", [1, FIRST_CENTS, 500], ids=["cheaper", "same price", "dearer"])
@pytest.mark.parametrize("fault", list(FAULTS))
async def test_the_next_provider_takes_over_unseen(
    world: World, fault: str, price_cents: int, admin: Login
) -> None:
    first, second = await pinned(world, FAULTS[fault], price_cents)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    parts = [part async for part in run.parts()]
    finished = parts[-1]
    assert isinstance(finished, Finished)
    assert (finished.state, finished.attempts) == (State.COMPLETED, 2)
    assert finished.answer["choices"][0]["message"]["content"] == " word" * 5
    assert len(parts) == 5 + 1 + 1
    attempts, holds = await books_of(world, admin)
    assert attempts == ["busy" if fault == "busy" else "failed", "completed"]
    # Only a dearer offer needs more than was held.
    assert holds == (["voided", "posted"] if price_cents > FIRST_CENTS else ["posted"])
    books = await world.no_holds()
    assert books.cost_microcents == finished.cost_microcents > 0
    assert (await world.payments.balance(second.scope)).earnings_microcents == books.earnings_microcents
    assert (await world.payments.balance(first.scope)).earnings_microcents == 0
    mine = await world.market.transaction(buyer, run.transaction_id)
    assert (mine.price_cents, mine.attempts) == (price_cents, 2)
    page = await world.market.transactions(first.scope, side=None, limit=10, cursor=None)
    assert [(one.side, one.state, one.total_microcents) for one in page.items] == [("provider", "FAILED", 0)]


async def poor(world: World) -> Network:
    """Somebody who can pay for the first offer and not for one of 500 cents a thousand."""
    return await world.buyer(cents=50)


async def test_an_offer_that_the_wallet_does_not_cover_is_passed_over(world: World, admin: Login) -> None:
    await pinned(world, scripts.fault_first, 4_000, 5_000, 11)
    run = await world.market.run(await poor(world), chat())
    finished = await run.outcome()
    assert (finished.state, finished.attempts) == (State.COMPLETED, 2)
    assert await books_of(world, admin) == (["failed", "completed"], ["voided", "posted"])
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents


async def test_if_no_other_is_covered_the_hold_is_given_back_at_once(world: World, admin: Login) -> None:
    await pinned(world, scripts.fault_first, 4_000)
    buyer = await poor(world)
    run = await world.market.run(buyer, chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert await books_of(world, admin) == (["failed"], ["voided"])
    assert (await world.no_holds()).cost_microcents == 0
    mine = await world.market.transaction(buyer, run.transaction_id)
    assert (mine.state, mine.error_code) == ("FAILED", "fault")


async def test_without_another_the_last_fault_stands(world: World, admin: Login) -> None:
    await pinned(world, None)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert (await world.market.transaction(buyer, run.transaction_id)).error_code == "busy"
    assert await books_of(world, admin) == (["busy"], ["voided"])
    await world.no_holds()


async def test_tries_are_limited(world: World, admin: Login) -> None:
    sellers = await pinned(world, scripts.fault_first, *[11] * 5)
    for seller in sellers:
        seller.behaviour = scripts.fault_first
    run = await world.market.run(await world.buyer(), chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    attempts, _ = await books_of(world, admin)
    assert attempts == ["failed"] * world.settings.attempts_max
    await world.no_holds()


@pytest.mark.parametrize("price_cents", [1, 500])
async def test_a_failover_whose_commit_was_not_heard_of_is_not_made_twice(
    world: World, price_cents: int, admin: Login
) -> None:
    first, _ = await pinned(world, scripts.fault_first, price_cents)
    buyer = await world.buyer()
    database = flaky(world)
    present = first.offered
    assert present is not None

    def offered() -> None:
        present()
        database.lose_commits = 1

    first.offered = offered
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert (finished.state, database.lose_commits) == (State.COMPLETED, 0)
    attempts, holds = await books_of(world, admin)
    assert attempts == ["failed", "completed"]
    assert holds[-1] == "posted"
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents


async def test_a_failover_after_the_reconciler_serves_nobody(world: World, admin: Login) -> None:
    first, second = await pinned(world, scripts.silent, FIRST_CENTS)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    await asyncio.wait_for(first.got_job.wait(), 5)
    following = world.make_reconciler(scripts.Node(world.node.node_id, world.ids.uuid()))
    assert await following.run_once() == 1
    with pytest.raises(Timeout):
        await run.outcome()
    assert second.jobs == []
    assert await books_of(world, admin) == (["lost"], ["expired"])
    assert (await world.no_holds()).cost_microcents == 0
