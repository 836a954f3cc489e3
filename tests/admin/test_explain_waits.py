"""`explain` shows why a request waited, where it stood, for how long, and how that ended."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.admin.conftest import House
from tests.admin.test_explain import explain
from tests.marketplace.queue_market import ask, narrow_market, queued, until
from tests.marketplace.world import Node, World
from yggdrasil.admin.explain import lines
from yggdrasil.kernel import Market, Settle, System
from yggdrasil.marketplace import store_queue


async def test_a_wait_and_its_turn(world: World) -> None:
    """It waited behind two others, was sent to a busy device, waited again, and was served."""
    gate = await narrow_market(world)
    device = world.providers[-1]
    first, buyer = await world.buyer(), await world.buyer()
    running = [asyncio.ensure_future(ask(world, first))]
    await until(lambda: len(gate.jobs) == 1)
    running += [await queued(world, lambda: ask(world, first)) for _ in range(2)]
    asking = await queued(world, lambda: ask(world, buyer))
    request = (await world.market.transactions(buyer, side="requester", limit=1, cursor=None)).items[0]
    world.clock.advance(2.5)
    waits = await explain(world, request.transaction_id)
    (wait,) = waits.waits
    assert (wait["reason"], wait["gates"], wait["attempts"]) == ("busy", ["capacity"], 0)
    assert (wait["ahead"], wait["waiting"]) == (1, 2), "the other network's first, and then its own turn"
    assert (wait["waited_ms"], wait["ended_at"], wait["ended"]) == (2_500, None, None)
    assert waits.attempts == waits.holds == waits.entries == []
    text = "\n".join(lines(waits))
    assert "every fitting offer was busy (gates: capacity); 1 turns ahead of it, 2 others waiting" in text

    def refuses() -> bool:
        device.refuses = None
        return True

    gate.answer()
    await until(lambda: len(gate.jobs) == 1)
    world.clock.advance(1)
    device.refuses = refuses
    gate.answer()
    for _ in range(2):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
    finished = await asking
    await asyncio.gather(*running)
    whole = await explain(world, request.transaction_id)
    assert [one["state"] for one in whole.attempts] == ["busy", "completed"]
    assert sorted(one["state"] for one in whole.holds) == ["posted", "voided"]
    stays = [(one["reason"], one["attempts"], one["ended"]) for one in whole.waits]
    assert stays == [
        ("busy", 0, "its turn came: attempt 1"),
        ("refused", 1, "its turn came: attempt 2"),
    ]
    assert whole.waits[0]["waited_ms"] == 3_500
    assert [one["ended_at"] for one in whole.waits] == [one["started_at"] for one in whole.attempts]
    text = "\n".join(lines(whole))
    for part in (
        "waited 3,500 ms: its turn came: attempt 1",
        "the device of attempt 1 was busy, and no other offer was free (gates: capacity)",
        "attempt 1 busy (busy)",
        "hold voided",
        "attempt 2 completed",
        "hold posted",
    ):
        assert part in text, part
    assert finished.attempts == 2


@pytest.mark.parametrize("how", ["too long", "cancelled", "lost"])
async def test_a_wait_that_nothing_came_of(world: World, how: str) -> None:
    """There is no attempt of it, and it is found all the same; the network reads that it was opened."""
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    seconds = 1 if how == "too long" else 30
    asking = await queued(world, lambda: ask(world, buyer, queue_seconds=seconds))
    request = (await world.market.transactions(buyer, side="requester", limit=1, cursor=None)).items[0]
    world.clock.advance(0.7)
    if how == "cancelled":
        await world.market.cancel(buyer, request.transaction_id)
    elif how == "lost":
        for task in list(world.market._serving._tasks):
            task.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await world.make_reconciler(Node(world.node.node_id, world.ids.uuid())).run_once()
    await asyncio.gather(asking, return_exceptions=True)
    found = await explain(world, request.transaction_id)
    assert found.request_id == request.transaction_id
    assert found.attempts == found.holds == found.entries == []
    assert found.decision is None
    (wait,) = found.waits
    ended = {
        "too long": "FAILED (no_provider)",
        "cancelled": "CANCELLED (cancelled)",
        "lost": "FAILED (server_lost)",
    }
    assert (wait["ended"], wait["waited_ms"]) == (ended[how], 700)
    assert f"waited 700 ms: {ended[how]}" in "\n".join(lines(found))
    async with world.database.transaction(buyer) as tx:
        assert await tx.fetchval("SELECT count(*) FROM tenant.openings") == 1
    if how != "lost":
        gate.answer()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_turn_that_led_to_nothing(world: World) -> None:
    """A seller comes online who can no more be paid: the request waits on, and it is written down why."""
    gate = await narrow_market(world)
    unpaid = await world.seller("unpaid")
    routing = world.market.routing
    routing.presence(unpaid.scope.network_id, unpaid.device, False)
    for method in await world.payments.list_methods(unpaid.scope):
        await world.payments.remove_method(unpaid.scope, method.method_id)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    asking = await queued(world, lambda: ask(world, buyer))
    request = (await world.market.transactions(buyer, side="requester", limit=1, cursor=None)).items[0]
    world.clock.advance(1)
    routing.presence(unpaid.scope.network_id, unpaid.device, True)
    async with asyncio.timeout(5):
        while len((await explain(world, request.transaction_id)).waits) == 1:
            await asyncio.sleep(0.01)
    world.clock.advance(2)
    gate.answer()
    await until(lambda: len(gate.jobs) == 1)
    gate.answer()
    assert (await asking).attempts == 1
    found = await explain(world, request.transaction_id)
    stays = [(one["reason"], one["attempts"], one["waited_ms"], one["ended"]) for one in found.waits]
    assert stays == [
        ("busy", 0, 1_000, "its turn led to nothing"),
        ("unpaid", 0, 2_000, "its turn came: attempt 1"),
    ]
    assert "its turn came, but the provider could not be paid" in "\n".join(lines(found))
    await running


async def test_nobody_but_an_operator_reads_how_others_waited(world: World) -> None:
    """The stays are no network's to read or change: they tell how many others waited."""
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    asking = await queued(world, lambda: ask(world, buyer))
    for scope in (buyer, Settle((buyer.network_id,)), Market()):
        for statement in ("SELECT ahead FROM platform.waits", "DELETE FROM platform.waits"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with world.database.transaction(scope) as tx:
                    await tx.execute(statement)
    async with world.database.transaction(System("test")) as tx:
        (row,) = await tx.fetch("SELECT * FROM platform.waits")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with world.database.transaction(System("test")) as tx:
            await tx.execute("UPDATE platform.waits SET ahead = 0")
    stranger = await world.buyer()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with world.database.transaction(Settle((stranger.network_id,))) as tx:
            await store_queue.insert_wait(
                tx,
                buyer.network_id,
                row["transaction_id"],
                store_queue.Wait(9, "busy", (), 0, 0, 0, row["queued_at"], row["until_at"]),
            )
    for _ in range(2):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
    await asyncio.gather(running, asking)


async def test_over_rest_an_operator_reads_the_wait(house: House) -> None:
    world = house.world
    gate = await narrow_market(world)
    buyer = await world.buyer()
    running = asyncio.ensure_future(ask(world, buyer))
    await until(lambda: len(gate.jobs) == 1)
    asking = await queued(world, lambda: ask(world, buyer))
    request = (await world.market.transactions(buyer, side="requester", limit=1, cursor=None)).items[0]
    for _ in range(2):
        await until(lambda: len(gate.jobs) == 1)
        gate.answer()
    await asyncio.gather(running, asking)
    path = f"/api/v1/admin/requests/{request.transaction_id}/open"
    opened = await house.ask(await house.operator(), "POST", path, json={"reason": "why did it wait"})
    (wait,) = opened.json()["waits"]
    assert (wait["reason"], wait["ahead"], wait["ended"]) == ("busy", 0, "its turn came: attempt 1")
    assert "network_id" not in wait
