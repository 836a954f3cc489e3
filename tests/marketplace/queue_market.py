"""A market with one narrow seller, and those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from tests.marketplace import world as scripts
from tests.marketplace.world import MODEL, Provider, World, chat, chat_terms
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace.run import Finished


class Gate:
    """A seller that takes one job at a time, and answers it when told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Provider, scripts.JobReady]] = []

    def take(self, device: Provider, job: scripts.JobReady) -> None:
        self.jobs.append((device, job))

    def answer(self) -> None:
        device, job = self.jobs.pop(0)
        scripts.good(device, job)
        device.pump()


DEAR_CENTS = 600
"""At most some 85 cents for what `ask` asks."""


async def narrow_market(world: World, *, jobs: int = 1, model: str = MODEL, price_cents: int = 10) -> Gate:
    """One seller whose device takes `jobs` at a time."""
    gate = Gate()
    scope = await world.person()
    await world.method(scope)
    device = await world.device(scope, f"narrow-{model}")
    await world.register(device, terms=[chat_terms(price_cents, model=model)], jobs=jobs)
    device.behaviour = gate.take
    world.market._serving._settings = replace(world.settings, first_chunk_seconds=60.0, stall_seconds=60.0)
    return gate


async def ask(world: World, who: Network, **wishes: Any) -> Finished:
    world.clock.advance(0.001)  # no two at the same moment
    run = await world.market.run(who, chat(**{"queue_seconds": 30, **wishes}))
    return await run.outcome()


async def until(told: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not told():
            await asyncio.sleep(0.002)


def waiting(world: World) -> int:
    return len(world.market._serving.queue)


async def queued(world: World, asking: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """The next in the queue, whose row is written."""
    before = await rows(world)
    task = asyncio.ensure_future(asking())
    async with asyncio.timeout(5):
        while await rows(world) == before and not task.done():
            await asyncio.sleep(0.002)
    return task


async def rows(world: World) -> int:
    async with world.database.transaction(System("reconciler")) as tx:
        found: int = await tx.fetchval("SELECT count(*) FROM platform.queued")
    return found


async def states(world: World, who: Network) -> list[tuple[str, str | None]]:
    page = await world.market.transactions(who, side="requester", limit=50, cursor=None)
    return [(one.state, one.error_code) for one in page.items]


Attempts = list[tuple[int, str, str | None]]


async def attempts_of(world: World, request: UUID) -> Attempts:
    """(ordinal, state, how its hold ended), in order."""
    async with world.database.transaction(System("test")) as tx:
        found = await tx.fetch(
            "SELECT a.ordinal, a.state, h.state AS hold FROM platform.attempts a"
            " LEFT JOIN tenant.holds h ON h.network_id = a.requester_network AND h.hold_id = a.hold_id"
            " WHERE a.requester_transaction = $1 ORDER BY a.ordinal",
            request,
        )
    return [(row["ordinal"], row["state"], row["hold"]) for row in found]


async def waits_of(world: World, request: UUID) -> list[tuple[str, list[str], int, int]]:
    """(reason, gates, attempts before, turns ahead) of each stay in the queue."""
    async with world.database.transaction(System("test")) as tx:
        found = await tx.fetch(
            "SELECT reason, gates, attempts, ahead FROM platform.waits WHERE transaction_id = $1"
            " ORDER BY ordinal",
            request,
        )
    return [(row["reason"], row["gates"], row["attempts"], row["ahead"]) for row in found]


async def newest(world: World, who: Network) -> UUID:
    page = await world.market.transactions(who, side="requester", limit=1, cursor=None)
    found: UUID = page.items[0].transaction_id
    return found


async def refusing(world: World, *, jobs: int = 1, price_cents: int = 10) -> tuple[Gate, Provider]:
    """A seller that says it takes `jobs`, and refuses them all until it is `busy` no more."""
    gate = await narrow_market(world, jobs=jobs, price_cents=price_cents)
    device = world.providers[-1]
    device.busy = True
    return gate, device


async def sent_back(world: World, who: Network, **wishes: Any) -> asyncio.Task[Any]:
    """A request that a device has just refused, and that waits again."""
    return await queued(world, lambda: ask(world, who, **wishes))


async def nothing_held(world: World, who: Network) -> None:
    assert (await world.payments.balance(who)).wallet_held_microcents == 0
    await world.no_holds()
