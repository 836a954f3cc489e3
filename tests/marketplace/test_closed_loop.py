"""The loop from answers to work and back: liars earn nothing by it, who fails loses his work and gets it back
when he heals, and a new one is soon tried."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.marketplace.world import (
    SETTINGS,
    Behaviour,
    JobReady,
    Provider,
    World,
    chat,
    chat_terms,
    chunk,
    fault_first,
    good,
)
from tests.support import ManualClock, SeededIds, as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.kernel import Network
from yggdrasil.keys import Keys

LOOP = replace(SETTINGS, newcomer_picks_ppm=50_000, runs_per_user_max=1)


@pytest.fixture
async def loop(
    request: pytest.FixtureRequest, database: Database, clock: ManualClock, ids: SeededIds, keys: Keys
) -> AsyncIterator[World]:
    made = World(database, clock, ids, keys, getattr(request, "param", LOOP))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def buy(world: World, buyer: Network, times: int) -> None:
    """Requests one after another, two seconds apart."""
    for number in range(times):
        await (await world.market.run(buyer, chat())).outcome()
        world.clock.advance(2)
        if number % 5 == 4:
            await world.market.epochs.run_once()


async def pass_time(world: World, minutes: int) -> None:
    """Epochs and canaries, and no requests."""
    for _ in range(minutes * 2):
        world.clock.advance(30)
        await world.market.epochs.run_once()
        await world.market.canaries.run_once()


def claiming(factor: int) -> Behaviour:
    """Answers well, and claims so many times what we count: 11 tokens of prompt and 5 of answer."""

    def answer(device: Provider, job: JobReady) -> None:
        for _ in range(5):
            device.client.send(job.link, chunk(" word"))
        device.client.send(job.link, chunk(finish="stop"))
        device.client.done(job.link, prompt_tokens=11 * factor, completion_tokens=5 * factor)

    return answer


class EverySecond:
    """Fails every second job."""

    def __init__(self) -> None:
        self.fails = False

    def __call__(self, device: Provider, job: JobReady) -> None:
        self.fails = not self.fails
        (fault_first if self.fails else good)(device, job)


async def test_a_provider_that_lies_about_tokens_earns_no_more_than_honest_and_tolerance(
    loop: World, admin: Login
) -> None:
    honest = await loop.seller("honest", claiming(1), [chat_terms(model="one")])
    liar = await loop.seller("liar", claiming(3), [chat_terms(model="two")])
    buyer = await loop.buyer(100_000)
    for model in ("one", "two"):
        for _ in range(20):
            await (await loop.market.run(buyer, chat(model=model))).outcome()
    lies = await as_superuser(
        loop.database,
        admin,
        "SELECT observed_tokens, claimed_tokens FROM platform.attempts WHERE device = $1",
        liar.device,
    )
    assert len(lies) == 20
    assert all(row["claimed_tokens"] == 3 * int(str(row["observed_tokens"])) for row in lies)
    earned = [(await loop.payments.balance(one.scope)).earnings_microcents for one in (honest, liar)]
    assert 0 < earned[0] <= earned[1] <= earned[0] * 1.25
    await loop.no_holds()


async def test_a_liar_gets_less_work_than_the_honest(loop: World) -> None:
    honest = [await loop.seller(f"honest-{n}", claiming(1)) for n in range(3)]
    liar = await loop.seller("liar", claiming(3))
    await pass_time(loop, 10)
    for one in (*honest, liar):
        one.jobs.clear()
    await buy(loop, await loop.buyer(100_000), 60)
    assert len(liar.jobs) < 60 / 4 / 2
    assert sum(len(one.jobs) for one in honest) == 60 - len(liar.jobs)


@pytest.mark.parametrize("loop", [replace(LOOP, newcomer_picks_ppm=0)], ids=["nobody tried"], indirect=True)
async def test_who_fails_every_second_job_loses_his_work_and_gets_it_back_when_he_heals(loop: World) -> None:
    sellers = [await loop.seller(f"steady-{n}") for n in range(2)]
    failing = await loop.seller("failing", EverySecond())
    buyer = await loop.buyer(100_000)
    await buy(loop, buyer, 60)
    lost = len(failing.jobs)
    assert 0 < lost <= 20
    failing.jobs.clear()
    await buy(loop, buyer, 30)
    assert len(failing.jobs) <= 3, "a third of a fair share: its turn comes when its score is in the band"
    failing.behaviour = good
    await pass_time(loop, 60)
    assert failing.jobs, "canaries test it"
    failing.jobs.clear()
    await buy(loop, buyer, 60)
    assert len(failing.jobs) >= 10
    assert all(one.jobs for one in sellers)
    await loop.no_holds()


async def test_a_new_provider_gets_its_first_job_soon(loop: World) -> None:
    for number in range(3):
        await loop.seller(f"known-{number}")
    buyer = await loop.buyer(100_000)
    await buy(loop, buyer, 45)
    newcomer = await loop.seller("newcomer")
    waited = 0
    while not newcomer.jobs and waited < 200:
        await buy(loop, buyer, 1)
        waited += 1
    assert newcomer.jobs, f"nothing in {waited} requests"


async def test_canaries_look_like_requests_cost_nobody_anything_and_are_few(
    loop: World, admin: Login
) -> None:
    sellers = [await loop.seller(f"idle-{n}") for n in range(6)]
    buyer = await loop.buyer()
    assert await loop.market.canaries.run_once() == 0
    loop.clock.advance(61)
    assert await loop.market.canaries.run_once() == LOOP.canaries_per_round
    tested = [one for one in sellers if one.jobs]
    assert len(tested) == LOOP.canaries_per_round
    await (await loop.market.run(buyer, chat())).outcome()
    real = next(one for one in sellers if one.jobs and b"Say some words" in one.jobs[-1].body).jobs[-1]
    for one in tested:
        canary = one.jobs[0]
        assert list(json.loads(canary.body)) == list(json.loads(real.body))
        assert canary.kind == real.kind
    assert len({one.jobs[0].body for one in tested}) == len(tested)
    assert (await loop.no_holds()).cost_microcents > 0
    attempts = await as_superuser(loop.database, admin, "SELECT count(*) AS n FROM platform.attempts")
    assert attempts == [{"n": 1}]
    for one in sellers:
        page = await loop.market.transactions(one.scope, side=None, limit=10, cursor=None)
        assert len(page.items) == (1 if real in one.jobs else 0)


async def test_paused_busy_and_private_offers_get_no_canary(loop: World) -> None:
    private = await loop.device(await loop.person(), "private")
    await loop.register(private, audience="own")
    private.jobs.clear()
    away = await loop.seller("away")
    away.leave()
    loop.clock.advance(3_600)
    assert await loop.market.canaries.run_once() == 0
    assert private.jobs == []
