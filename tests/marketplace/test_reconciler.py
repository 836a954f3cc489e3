"""What a dead server leaves behind is ended, once, in every network; what lives is left alone."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from tests.marketplace import world as scripts
from tests.marketplace.world import Node, World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db import Tx
from yggdrasil.db.address import Login
from yggdrasil.errors import LedgerError, Timeout
from yggdrasil.kernel import Network, Settle, System
from yggdrasil.marketplace import store_nodes
from yggdrasil.marketplace.run import Run
from yggdrasil.marketplace.store_run import OpenAttempt
from yggdrasil.payments.service import Payments


async def two_stuck_runs(world: World) -> list[tuple[Network, Run]]:
    """Two networks, each with a request that its provider accepted and never answers."""
    world.market._serving._settings = scripts.replace(
        world.settings, first_chunk_seconds=60.0, stall_seconds=60.0
    )
    stuck = []
    for name in ("one", "two"):
        seller = await world.seller(name, scripts.silent, terms=[chat_terms(model=name)])
        buyer = await world.buyer()
        run = await world.market.run(buyer, chat(model=name))
        await asyncio.wait_for(seller.got_job.wait(), 5)
        stuck.append((buyer, run))
    assert (await world.books()).open_holds == 2
    return stuck


async def forget(world: World) -> None:
    """The process dies: its tasks are gone, nothing was settled."""
    for task in list(world.market._serving._tasks):
        task.cancel()
    await asyncio.gather(*world.market._serving._tasks, return_exceptions=True)


async def states(world: World, stuck: list[tuple[Network, Run]]) -> list[str]:
    return [(await world.market.transaction(who, run.transaction_id)).state for who, run in stuck]


async def test_the_next_boot_of_a_node_ends_what_the_last_one_left(world: World, admin: Login) -> None:
    stuck = await two_stuck_runs(world)
    await forget(world)
    assert await world.reconciler.run_once() == 0  # the control: its own may yet end
    assert (await world.books()).open_holds == 2
    following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
    assert await following.run_once() == 2
    assert await states(world, stuck) == ["FAILED", "FAILED"]
    assert (await world.no_holds()).cost_microcents == 0
    assert await following.run_once() == 0
    assert (await world.no_holds()).cost_microcents == 0
    rows = await as_superuser(
        world.database, admin, "SELECT state, side, error_code FROM tenant.transactions ORDER BY side"
    )
    assert [(row["side"], row["state"], row["error_code"]) for row in rows] == [
        ("provider", "FAILED", "server_lost"),
        ("provider", "FAILED", "server_lost"),
        ("requester", "FAILED", "server_lost"),
        ("requester", "FAILED", "server_lost"),
    ]
    attempts = await as_superuser(world.database, admin, "SELECT state FROM platform.attempts")
    assert [row["state"] for row in attempts] == ["lost", "lost"]


async def test_another_node_ends_it_only_after_silence(world: World, admin: Login) -> None:
    stuck = await two_stuck_runs(world)
    await forget(world)
    other = world.make_reconciler(Node(world.ids.uuid(), world.ids.uuid()))
    assert await other.run_once() == 0
    assert await states(world, stuck) == ["PROCESSING", "PROCESSING"]
    await as_superuser(
        world.database,
        admin,
        "UPDATE platform.nodes SET heartbeat_at = heartbeat_at - $1::interval WHERE boot_id = $2",
        timedelta(seconds=world.settings.node_silent_seconds + 1),
        world.node.boot_id,
    )
    assert await other.run_once() == 2
    assert await states(world, stuck) == ["FAILED", "FAILED"]
    await world.no_holds()


async def test_after_the_database_was_away_the_others_get_time_to_come_back(
    world: World, admin: Login
) -> None:
    stuck = await two_stuck_runs(world)
    other = world.make_reconciler(Node(world.ids.uuid(), world.ids.uuid()))
    assert await other.run_once() == 0
    silence = world.settings.node_silent_seconds
    await as_superuser(
        world.database,
        admin,
        "UPDATE platform.nodes SET heartbeat_at = heartbeat_at - $1::interval WHERE boot_id = $2",
        timedelta(seconds=silence + 1),
        world.node.boot_id,
    )
    world.clock.advance(silence)  # nobody could beat for so long
    assert await other.run_once() == 0
    world.clock.advance(silence / 2 - 1)
    assert await other.run_once() == 0
    world.clock.advance(silence / 2 - 1)
    assert await other.run_once() == 0
    world.clock.advance(3)
    assert await other.run_once() == 2  # the control: silent still
    assert await states(world, stuck) == ["FAILED", "FAILED"]
    await world.no_holds()


async def test_two_reconcilers_at_once_end_each_once(world: World) -> None:
    await two_stuck_runs(world)
    await forget(world)
    rivals = [world.make_reconciler(Node(world.node.node_id, UUID(int=n))) for n in (1, 2)]
    ended = await asyncio.gather(*(rival.run_once() for rival in rivals))
    assert sum(ended) == 2
    await world.no_holds()


async def test_past_the_deadline_nobody_pays_even_if_the_answer_comes(world: World) -> None:
    stuck = await two_stuck_runs(world)
    world.clock.advance(120 + world.settings.settle_grace_seconds + 1)
    assert await world.reconciler.run_once() == 2
    assert await states(world, stuck) == ["FAILED", "FAILED"]
    for provider in world.providers:
        for job in provider.jobs[-1:]:
            scripts.good(provider, job)
            provider.wake()
    for _, run in stuck:
        with pytest.raises(Timeout):
            await run.outcome()
    assert (await world.no_holds()).cost_microcents == 0
    assert await states(world, stuck) == ["FAILED", "FAILED"]


async def test_a_living_request_is_left_alone(world: World) -> None:
    stuck = await two_stuck_runs(world)
    assert await world.reconciler.run_once() == 0
    for provider in world.providers:
        scripts.good(provider, provider.jobs[-1])
        provider.wake()
    for _, run in stuck:
        await run.outcome()
    assert await states(world, stuck) == ["COMPLETED", "COMPLETED"]
    assert (await world.no_holds()).cost_microcents > 0


async def test_a_clean_stop_takes_the_boot_off_the_list(world: World, admin: Login) -> None:
    listed = "SELECT boot_id FROM platform.nodes"
    assert len(await as_superuser(world.database, admin, listed)) == 1
    await world.reconciler.stop()
    assert await as_superuser(world.database, admin, listed) == []


async def test_expired_results_are_deleted(world: World, admin: Login) -> None:
    await world.seller()
    run = await world.market.run(await world.buyer(), chat())
    await run.outcome()
    stored = "SELECT sealed FROM tenant.results"
    rows = await as_superuser(world.database, admin, stored)
    assert len(rows) == 1
    assert b" word" not in bytes(rows[0]["sealed"])  # type: ignore[call-overload]
    world.clock.advance(899)
    await world.reconciler.run_once()
    assert len(await as_superuser(world.database, admin, stored)) == 1
    world.clock.advance(1)
    await world.reconciler.run_once()
    assert await as_superuser(world.database, admin, stored) == []


async def stray_hold(world: World, boot_id: UUID, deadline_seconds: float) -> UUID:
    """A hold without an attempt: what should not be, and must end all the same."""
    buyer = await world.buyer()
    owner = Node(world.node.node_id, boot_id)
    payments = Payments(world.database, world.payments._gateway, world.clock, world.ids, owner)
    hold_id = world.ids.uuid()
    async with world.database.transaction(Settle((buyer.network_id,))) as tx:
        await payments.hold(
            tx,
            network_id=buyer.network_id,
            hold_id=hold_id,
            transaction_id=world.ids.uuid(),
            amount_microcents=1_000_000,
            deadline_at=world.clock.now() + timedelta(seconds=deadline_seconds),
        )
    return hold_id


async def test_a_hold_that_no_attempt_answers_for_is_ended(world: World) -> None:
    for _ in range(2):
        await stray_hold(world, world.ids.uuid(), 600)
        await stray_hold(world, world.node.boot_id, 100)
    assert await world.reconciler.run_once() == 2
    assert (await world.books()).open_holds == 2  # the control: the living may yet end theirs
    assert await world.reconciler.run_once() == 0
    world.clock.advance(101)
    assert await world.reconciler.run_once() == 2
    assert (await world.no_holds()).cost_microcents == 0


async def test_one_that_cannot_be_ended_keeps_nothing_from_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await two_stuck_runs(world)
    await forget(world)
    following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
    end_open = following._records.end_open
    failed: list[UUID] = []

    async def broken(attempt: OpenAttempt, code: str) -> bool:
        if not failed:
            failed.append(attempt.attempt_id)
            raise LedgerError("a test's trouble")
        return await end_open(attempt, code)

    monkeypatch.setattr(following._records, "end_open", broken)
    # One attempt; and the hold of the other, which nothing else would have given back.
    assert await following.run_once() == 2
    assert sorted(await states(world, stuck)) == ["FAILED", "PROCESSING"]
    assert (await world.no_holds()).cost_microcents == 0
    assert await following.run_once() == 1
    assert await states(world, stuck) == ["FAILED", "FAILED"]
    await world.no_holds()


async def test_a_boot_that_comes_up_meanwhile_keeps_what_it_began(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first beat and its first hold fall between the question who lives and what they left."""
    newcomer = Node(world.ids.uuid(), world.ids.uuid())
    asked: list[str] = []

    async def come_up(boot: Node) -> None:
        async with world.database.transaction(System("reconciler")) as tx:
            await store_nodes.beat(tx, boot.node_id, boot.boot_id, await tx.clock())
        await stray_hold(world, boot.boot_id, 600)

    live_boots = store_nodes.live_boots

    async def late(tx: Tx, silent_before: datetime) -> list[UUID]:
        found = await live_boots(tx, silent_before)
        asked.append("live")
        if len(asked) in (1, 2):
            boot = newcomer if len(asked) == 1 else Node(world.ids.uuid(), world.ids.uuid())
            await asyncio.create_task(come_up(boot))
        return found

    monkeypatch.setattr(store_nodes, "live_boots", late)
    assert await world.reconciler.run_once() == 0
    assert len(asked) == 3
    assert (await world.books()).open_holds == 2
