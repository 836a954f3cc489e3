"""The database, callers or readers go away, something breaks: no hold is left, and nobody pays twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.flaky import Flaky, flaky
from tests.marketplace.world import World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import Conflict, LedgerError, LimitReached, NoProvider, ProviderFailed, Unavailable
from yggdrasil.kernel import Network
from yggdrasil.marketplace import serving
from yggdrasil.marketplace.pipe import ITEMS_MAX
from yggdrasil.marketplace.requests import ComputeRequest, State
from yggdrasil.marketplace.run import Chunk, Run
from yggdrasil.wire.client import QUEUE_BYTES_MAX
from yggdrasil.wire.limits import WINDOW_BYTES


async def quiet(world: World) -> None:
    """Every run has ended, and nothing of it is left in memory."""
    runs = world.market._serving
    while runs._tasks:
        await asyncio.wait_for(asyncio.gather(*runs._tasks, return_exceptions=True), 5)
        await asyncio.sleep(0)
    assert (runs._runs, runs._of_user) == ({}, {})


async def one_slot(world: World, behaviour: scripts.Behaviour = scripts.good) -> scripts.Provider:
    """A seller with one slot: a slot that is not given back shows at the next request."""
    seller = await world.seller(behaviour=behaviour)
    offers = world.market.offers(seller.scope, model=None, within="own", limit=1, cursor=None).items
    await world.market.update_provider(
        seller.scope, str(offers[0].provider_id), audience=None, status=None, capacity_jobs=1, terms=None
    )
    return seller


async def served(world: World, buyer: Network, request: ComputeRequest | None = None) -> None:
    assert (await (await world.market.run(buyer, request or chat())).outcome()).state is State.COMPLETED


async def test_a_caller_who_leaves_during_admission_leaves_no_hold(world: World) -> None:
    seller = await one_slot(world)
    buyer = await world.buyer()
    database = flaky(world)
    database.gate.clear()
    asking = asyncio.create_task(world.market.run(buyer, chat()))
    await asyncio.wait_for(database.at_gate.wait(), 5)
    assert (await world.books()).open_holds == 1  # the control: it was committed
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    database.gate.set()
    await quiet(world)
    assert (await world.no_holds()).cost_microcents == 0
    assert seller.jobs == []
    page = await world.market.transactions(buyer, side=None, limit=10, cursor=None)
    assert [one.state for one in page.items] == ["CANCELLED"]
    await served(world, buyer)


async def test_an_admission_that_was_not_heard_of_is_undone(world: World) -> None:
    await one_slot(world)
    buyer = await world.buyer()
    database = flaky(world)
    database.lose_commits = 1
    with pytest.raises(Unavailable):
        await world.market.run(buyer, chat())
    await quiet(world)
    assert (await world.no_holds()).cost_microcents == 0
    await served(world, buyer)


async def test_a_settlement_that_was_not_heard_of_is_paid_once(world: World) -> None:
    seller = await world.seller()
    buyer = await world.buyer()
    database = flaky(world)
    run = await world.market.run(buyer, chat())
    database.lose_commits = 1
    finished = await run.outcome()
    assert (finished.state, database.lose_commits) == (State.COMPLETED, 0)
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0
    assert await world.market.result(buyer, run.transaction_id)
    assert (await world.payments.balance(seller.scope)).earnings_microcents > 0


async def answered_while_away(world: World) -> tuple[Network, Run, Flaky]:
    """A run whose answer was read whole while the database was away."""
    await world.seller()
    buyer = await world.buyer()
    database = flaky(world)
    run = await world.market.run(buyer, chat())
    database.down = True
    for _ in range(6):
        assert isinstance(await run.pipe.get(), Chunk)
    while not database.refused:
        await asyncio.sleep(0.005)
    return buyer, run, database


async def test_the_settlement_waits_for_the_database(world: World) -> None:
    buyer, run, database = await answered_while_away(world)
    database.down = False
    finished = await run.outcome()
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0
    assert (await world.market.transaction(buyer, run.transaction_id)).state == "COMPLETED"


async def test_past_the_grace_the_reader_is_told_and_nobody_pays(world: World) -> None:
    buyer, run, database = await answered_while_away(world)
    world.clock.advance(120 + world.settings.settle_grace_seconds + 1)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(run.outcome(), 5)
    await quiet(world)
    assert (await world.books()).open_holds == 1
    database.down = False
    assert await world.reconciler.run_once() == 1
    assert (await world.no_holds()).cost_microcents == 0
    assert (await world.market.transaction(buyer, run.transaction_id)).state == "FAILED"


async def test_a_bug_in_an_attempt_ends_in_the_books_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, admin: Login
) -> None:
    await one_slot(world)
    buyer = await world.buyer()

    class Broken:
        def __init__(self, *_: object) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(serving, "Attempt", Broken)
    run = await world.market.run(buyer, chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    monkeypatch.undo()
    assert (await world.no_holds()).cost_microcents == 0
    rows = await as_superuser(world.database, admin, "SELECT state, error_code FROM platform.attempts")
    assert [(row["state"], row["error_code"]) for row in rows] == [("lost", "server_fault")]
    await quiet(world)
    await served(world, buyer)


async def test_nothing_is_paid_into_a_transaction_that_has_ended(world: World, admin: Login) -> None:
    """The requester's row was moved by something else: no payment, and no hold that stays."""
    seller = await world.seller(behaviour=scripts.silent)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    await asyncio.wait_for(seller.got_job.wait(), 5)
    await as_superuser(
        world.database, admin, "UPDATE tenant.transactions SET state = 'FAILED' WHERE side = 'requester'"
    )
    scripts.good(seller, seller.jobs[-1])
    seller.wake()
    with pytest.raises(LedgerError):
        await run.outcome()
    assert (await world.no_holds()).cost_microcents == 0
    rows = await as_superuser(world.database, admin, "SELECT state FROM platform.attempts")
    assert [row["state"] for row in rows] == ["lost"]


async def test_an_answer_read_to_its_end_is_paid_even_if_the_provider_dies_then(world: World) -> None:
    await world.seller(behaviour=scripts.all_but_done)
    buyer = await world.buyer()
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert (finished.state, finished.completion_tokens) == (State.COMPLETED, 5)
    assert finished.answer["choices"][0]["finish_reason"] == "stop"
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0


async def test_hanging_up_before_the_last_word_does_not_keep_the_run(world: World) -> None:
    """The pipe is full, the answer settled: whoever leaves now frees the run at once."""

    def full(device: scripts.Provider, job: scripts.JobReady) -> None:
        scripts.good(device, job, words=ITEMS_MAX - 1)

    await world.seller(behaviour=full)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    while not run.booked:
        await asyncio.sleep(0.005)
    assert world.market._serving._runs
    run.close()
    await asyncio.wait_for(quiet(world), 5)
    view = await world.market.transaction(buyer, run.transaction_id)
    assert (view.state, view.completion_tokens) == ("COMPLETED", ITEMS_MAX - 1)
    assert await world.market.result(buyer, run.transaction_id)


async def test_a_reader_who_reads_nothing_stops_the_provider(world: World) -> None:
    """What is buffered is the pipe and the link's credit, however much the provider would send."""
    world.market._serving._settings = scripts.replace(world.settings, stall_seconds=60.0)
    payload = scripts.chunk(" word" * 200)

    def flood(device: scripts.Provider, job: scripts.JobReady) -> None:
        with contextlib.suppress(LimitReached):
            while True:
                device.client.send(job.link, payload)

    seller = await world.seller(behaviour=flood, terms=[chat_terms(1, context_tokens_max=10_000_000)])
    buyer = await world.buyer(cents=100_000)
    run = await world.market.run(buyer, chat(max_tokens=1_000_000, max_cost_cents=20_000))
    await asyncio.wait_for(seller.got_job.wait(), 5)
    link = seller.jobs[0].link

    async def settled() -> int:
        """What the device could not send, once that does not change any more."""
        last, queued = -1, seller.client.queued_bytes(link)
        while queued != last:
            await asyncio.sleep(0.1)
            last, queued = queued, seller.client.queued_bytes(link)
        return queued

    full = QUEUE_BYTES_MAX - len(payload)
    waiting = await settled()
    assert full - waiting < 2 * WINDOW_BYTES + (ITEMS_MAX + 2) * len(payload) < full
    assert len(run.pipe._items) == ITEMS_MAX
    for _ in range(400):
        assert isinstance(await run.pipe.get(), Chunk)
    assert await settled() < waiting  # the control: reading lets the provider go on
    run.close()
    await quiet(world)
    view = await world.market.transaction(buyer, run.transaction_id)
    assert view.state == "CANCELLED"
    assert view.completion_tokens >= 400 * 200
    assert (await world.no_holds()).cost_microcents == view.total_microcents > 0


async def test_a_user_over_his_limit_gets_the_slot_back(world: World) -> None:
    """Refusals of every kind leave the user's count as it was."""
    seller = await one_slot(world)
    poor = await world.buyer(cents=0)
    limit = world.settings.runs_per_user_max
    for _ in range(limit + 1):
        refusals = await asyncio.gather(world.market.run(poor, chat()), return_exceptions=True)
        assert [type(one).__name__ for one in refusals] == ["PaymentRequired"]
    await quiet(world)
    buyer = await world.buyer()
    request = chat()
    keyed = scripts.replace(request, idempotency_key="once")
    await served(world, buyer, keyed)
    for _ in range(3):
        with pytest.raises(Conflict):
            await world.market.run(buyer, keyed)
    await quiet(world)
    await served(world, buyer)
    assert len(seller.jobs) == 2
    seller.leave()
    with pytest.raises(NoProvider):
        await world.market.run(buyer, request)
    # A used key is a conflict even if nobody could serve it now.
    with pytest.raises(Conflict):
        await world.market.run(buyer, keyed)


async def test_a_stop_leaves_nobody_waiting(world: World) -> None:
    await world.seller(behaviour=scripts.silent)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    admitting = asyncio.create_task(world.market.run(buyer, chat()))
    while len(world.market._serving._tasks) < 2:
        await asyncio.sleep(0)
    for task in list(world.market._serving._tasks):
        task.cancel()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(admitting, 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(run.outcome(), 5)
    await quiet(world)
