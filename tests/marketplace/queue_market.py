"""A market with one narrow seller, and those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

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
