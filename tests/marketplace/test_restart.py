"""What the market learnt outlives a restart, and a device that is registered anew."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.marketplace import world as scripts
from tests.marketplace.test_wishes import name_of
from tests.marketplace.world import MODEL, Node, Provider, World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.devices.model import group_of, registration_message
from yggdrasil.errors import Conflict, LimitReached, NoProvider, ProviderFailed, Unavailable
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace import store_nodes
from yggdrasil.marketplace.canaries import Canaries
from yggdrasil.marketplace.recalling import RECALL_DAYS, keep
from yggdrasil.marketplace.requests import Offer
from yggdrasil.marketplace.segments import BREAK_SECONDS
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.wire.proof import encode_bytes


@asynccontextmanager
async def restarted(world: World) -> AsyncIterator[Marketplace]:
    """Another process on the same database. The first one goes on."""
    made = world.make_market(Node(world.node.node_id, world.ids.uuid()))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def offer_of(market: Marketplace, device: Provider) -> Offer:
    return next(one for one in market.routing._offers.values() if one.device == device.device)


async def fail(market: Marketplace, buyer: Network, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ProviderFailed):
            await (await market.run(buyer, chat())).outcome()


async def register_again(world: World, old: Provider, name: str) -> Provider:
    """The same key under another name."""
    made = await world.devices.register(
        old.scope,
        device_id=name,
        name=name,
        world="Alfheim",
        capabilities={},
        hardware={"memory_gib": 32},
        device_key=encode_bytes(old.key.public_key().public_bytes_raw()),
        proof=encode_bytes(old.key.sign(registration_message(old.scope.network_id, name))),
    )
    device = Provider(world, old.scope, made.id, name, old.key)
    world.providers.append(device)
    await device.dial()
    return device


async def test_an_open_breaker_is_still_open_and_half_opens_at_the_same_time(world: World) -> None:
    seller = await world.seller("failing", scripts.fault_first)
    buyer = await world.buyer()
    for _ in range(5):
        await fail(world.market, buyer, 1)
        world.clock.advance(1)
    async with restarted(world) as again:
        old, new = world.market.routing, again.routing
        offer = offer_of(again, seller)
        states = []
        for _ in range(12):
            states.append((old.breaker(offer), new.breaker(offer)))
            with pytest.raises(NoProvider):
                await again.run(buyer, chat())
            world.clock.advance(1)
        assert all(before == after for before, after in states)
        assert [state for state, _ in states] == ["open"] * 9 + ["half_open"] * 3
    await world.no_holds()


async def test_what_canaries_found_is_remembered(world: World, admin: Login) -> None:
    seller = await world.seller("failing", scripts.fault_first)
    buyer = await world.buyer()
    await fail(world.market, buyer, 5)
    world.clock.advance(11)
    # Half-open, and still failing: opened anew, for twice as long.
    assert await world.market.canaries.run_once() == 1
    async with restarted(world) as again:
        offer = offer_of(again, seller)
        world.clock.advance(19)
        assert (world.market.routing.breaker(offer), again.routing.breaker(offer)) == ("open", "open")
        world.clock.advance(1.5)
        assert again.routing.breaker(offer) == "half_open"
    seller.behaviour = scripts.good
    assert await world.market.canaries.run_once() == 3
    async with restarted(world) as again:
        assert again.routing.breaker(offer) == "closed"
        await (await again.run(buyer, chat())).outcome()
    rows = await as_superuser(world.database, admin, "SELECT state FROM platform.canaries")
    assert sorted(row["state"] for row in rows) == ["completed"] * 3 + ["failed"]
    world.clock.advance(RECALL_DAYS * 86_400 + 1)
    await world.reconciler.run_once()
    assert await as_superuser(world.database, admin, "SELECT FROM platform.canaries") == []


async def test_canaries_that_could_not_be_written_are_written_later(
    world: World, monkeypatch: pytest.MonkeyPatch, admin: Login
) -> None:
    await world.seller("failing", scripts.fault_first)
    await fail(world.market, await world.buyer(), 5)
    world.clock.advance(11)

    async def nothing(_: Canaries) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(Canaries, "_write", nothing)
        await world.market.canaries.run_once()
    assert await as_superuser(world.database, admin, "SELECT FROM platform.canaries") == []
    assert await world.market.canaries.run_once() == 0
    assert len(await as_superuser(world.database, admin, "SELECT FROM platform.canaries")) == 1


async def test_canaries_wait_while_the_database_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch, admin: Login
) -> None:
    """The round goes on, what it saw is kept in its order, and the oldest goes first when there is too
    much."""
    world.market.canaries._unwritten = deque(maxlen=2)
    await world.seller("failing", scripts.fault_first)
    await fail(world.market, await world.buyer(), 5)
    wait, written = 11, "SELECT ended_at FROM platform.canaries ORDER BY ended_at"

    async def away(*_: object) -> None:
        raise Unavailable("the database is away")

    ends = []
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(store_nodes, "insert_canaries", away)
        for _ in range(3):
            world.clock.advance(wait)
            wait = wait * 2 + 1  # each canary that fails opens the breaker for twice as long
            assert await world.market.canaries.run_once() == 1
            ends.append(world.clock.now())
    assert [log["error"] for log in logs if log["event"] == "canaries not written"] == ["unavailable"] * 3
    assert await as_superuser(world.database, admin, written) == []
    assert await world.market.canaries.run_once() == 0
    assert [row["ended_at"] for row in await as_superuser(world.database, admin, written)] == ends[1:]


async def test_an_owners_breaker_is_remembered(world: World) -> None:
    sellers = [await world.seller("first", scripts.fault_first)]
    for number in range(4):
        device = await world.device(sellers[0].scope, f"more{number}")
        await world.register(device)
        device.behaviour = scripts.fault_first
        sellers.append(device)
    buyer = await world.buyer()
    for _ in range(12):
        try:
            await (await world.market.run(buyer, chat())).outcome()
        except (ProviderFailed, NoProvider):
            world.clock.advance(0.1)
    owner = sellers[0].scope.network_id
    assert world.market.routing.owner_fails(owner)
    async with restarted(world) as again:
        assert again.routing.owner_fails(owner)


async def test_tolerance_is_learnt_by_the_next_boot(world: World) -> None:
    def overcounting(device: Provider, job: scripts.JobReady) -> None:
        for _ in range(30):
            device.client.send(job.link, scripts.chunk(" word"))
        device.client.send(job.link, scripts.chunk(finish="stop"))
        device.client.done(job.link, prompt_tokens=14, completion_tokens=38)

    sellers = [await world.seller(f"pc{number}", overcounting) for number in range(4)]
    buyer = await world.buyer(10_000)
    for seller in sellers:
        for _ in range(2):
            order = [name_of(world, buyer, seller)]
            await (await world.market.run(buyer, chat(order=order, max_tokens=200))).outcome()
            world.clock.advance(1)
    learnt = world.market.routing.tolerance.percent(MODEL)
    assert learnt != world.settings.tolerance_percent, "the control: something was learnt"
    async with restarted(world) as again:
        assert again.routing.tolerance.percent(MODEL) == learnt
        assert again.routing.tolerance._ratios == world.market.routing.tolerance._ratios


async def test_breaks_are_limited_across_a_restart(world: World) -> None:
    world.settings = replace(world.settings, breaks_per_hour_max=3)
    await world.seller("breaking", scripts.fault_after)
    buyer, other = await world.buyer(), await world.buyer()
    await fail(world.market, buyer, 2)
    world.clock.advance(100)
    await fail(world.market, buyer, 1)
    async with restarted(world) as again:
        with pytest.raises(LimitReached) as caught:
            await again.run(buyer, chat())
        assert caught.value.retry_after_seconds == BREAK_SECONDS - 100
        await fail(again, other, 1)
    world.clock.advance(BREAK_SECONDS - 99)
    async with restarted(world) as again:
        await fail(again, buyer, 1)


async def test_quality_is_what_was_judged(world: World, admin: Login) -> None:
    """Not what could be guessed from the rest of the row: this one is whole, honest, and says one thing again
    and again."""

    def repeating(device: Provider, job: scripts.JobReady) -> None:
        for _ in range(200):
            device.client.send(job.link, scripts.chunk(" same"))
        device.client.send(job.link, scripts.chunk(finish="stop"))
        device.client.done(job.link, prompt_tokens=11, completion_tokens=200)

    seller = await world.seller("repeating", repeating)
    buyer = await world.buyer(10_000)
    run = await world.market.run(buyer, chat(max_tokens=1_000))
    await run.outcome()
    sql = "SELECT state, quality_ppm, verdict FROM platform.attempts ORDER BY started_at"
    rows = await as_superuser(world.database, admin, sql)
    assert [tuple(row.values()) for row in rows] == [("completed", 400_000, "repetitive")]
    for scope in (buyer, seller.scope):
        views = (await world.market.transactions(scope, side=None, limit=10, cursor=None)).items
        assert [view.quality_ppm for view in views] == [400_000]
    async with restarted(world) as again:
        offer = offer_of(again, seller)
        old, new = world.market.routing.standing(offer), again.routing.standing(offer)
        assert new.quality == pytest.approx(old.quality, abs=1e-3)
        assert new.weight == pytest.approx(old.weight, abs=1e-3)

    def honest(device: Provider, job: scripts.JobReady) -> None:
        device.client.send(job.link, scripts.chunk(" word"))
        device.client.send(job.link, scripts.chunk(finish="stop"))
        device.client.done(job.link, prompt_tokens=11, completion_tokens=1)

    for behaviour, found in (
        (honest, ("completed", 1_000_000, None)),
        (scripts.fault_first, ("failed", None, None)),
        (scripts.fault_after, ("failed", None, "broke_off")),
        (scripts.garbage, ("failed", 0, None)),
        (scripts.lying, ("completed", 0, "exaggerated")),
    ):
        seller.behaviour = behaviour
        world.clock.advance(1)
        try:
            await (await world.market.run(buyer, chat())).outcome()
        except ProviderFailed:
            assert found[0] == "failed"
        rows = await as_superuser(world.database, admin, sql)
        assert tuple(rows[-1].values()) == found


async def test_a_device_registered_anew_keeps_its_breaker_and_its_standing(world: World) -> None:
    seller = await world.seller("failing", scripts.lying)
    buyer = await world.buyer(10_000)
    await (await world.market.run(buyer, chat())).outcome()
    seller.behaviour = scripts.fault_first
    await fail(world.market, buyer, 5)
    before = offer_of(world.market, seller)
    standing = world.market.routing.standing(before)
    await world.devices.remove(seller.scope, "failing")
    assert not world.market.routing._offers
    again = await register_again(world, seller, "new-name")
    await world.register(again)
    after = offer_of(world.market, again)
    assert after.device != before.device
    assert (after.id, after.group) == (before.id, before.group)
    assert after.group == group_of(seller.scope.network_id, seller.key.public_key().public_bytes_raw())
    assert world.market.routing.breaker(after) == "open"
    assert world.market.routing.standing(after).quality == pytest.approx(standing.quality, abs=0.01)
    async with restarted(world) as later:
        assert later.routing.breaker(after) == "open"
        assert later.routing.standing(after).quality == pytest.approx(standing.quality, abs=0.01)
    # The control: another key is another device.
    fresh = await world.device(seller.scope, "fresh")
    await world.register(fresh)
    assert world.market.routing.breaker(offer_of(world.market, fresh)) == "closed"


async def test_one_key_sells_a_model_once_in_a_network(world: World) -> None:
    seller = await world.seller("pc")
    twin = await register_again(world, seller, "twin")
    with pytest.raises(Conflict) as caught:
        await world.register(twin)
    assert caught.value.field == "models"
    other = await world.register(twin, terms=[chat_terms(model="another")])
    with pytest.raises(Conflict) as caught:
        await world.market.update_provider(
            twin.scope,
            str(other.provider_id),
            audience=None,
            status=None,
            capacity_jobs=None,
            terms=[chat_terms(model="another"), chat_terms()],
        )
    assert caught.value.field == "models"
    # They share the key's breaker, and its slots.
    assert len({one.group for one in world.market.routing._offers.values()}) == 1


async def test_a_key_is_another_device_in_another_network(world: World) -> None:
    seller = await world.seller("pc")
    other = await world.person()
    key = seller.key.public_key().public_bytes_raw()
    assert group_of(seller.scope.network_id, key) != group_of(other.network_id, key)


async def test_the_job_that_reads_it_back_sees_all_networks(world: World) -> None:
    buyers = [await world.buyer() for _ in range(2)]
    sellers = [await world.seller(f"pc{number}", scripts.fault_after) for number in range(2)]
    for buyer, seller in zip(buyers, sellers, strict=True):
        run = await world.market.run(buyer, chat(order=[name_of(world, buyer, seller)]))
        with pytest.raises(ProviderFailed):
            await run.outcome()
    since = world.clock.now() - timedelta(hours=1)
    async with world.database.transaction(System("router-recall")) as tx:
        past = await store_nodes.past_attempts(tx, since, 100, 0.3, failing=True)
        broken = await store_nodes.broken_off(tx, since, 100)
    assert {one.owner for one in past} == {one.scope.network_id for one in sellers}
    assert {network for network, _ in broken} == {one.network_id for one in buyers}


async def test_conversations_outlive_a_planned_restart_and_no_crash(world: World, admin: Login) -> None:
    for number in range(3):
        await world.seller(f"pc-{number}")
    buyer, mate = await world.buyer(), await world.buyer()
    asked = replace(chat(), conversation="tea, and nobody's business")
    await (await world.market.run(buyer, asked)).outcome()
    served_by = world.market.routing.affinity.preferred(buyer, asked)
    assert served_by is not None
    async with restarted(world) as crashed:
        # The control: while nobody has stopped, nothing is written.
        assert crashed.routing.affinity.preferred(buyer, asked) is None
    await world.market.stop()
    (row,) = await as_superuser(world.database, admin, "SELECT * FROM platform.conversations")
    assert row["node_id"] == world.node.node_id
    assert b"tea" not in row["conversation"]
    elsewhere = Node(world.ids.uuid(), world.ids.uuid())
    other = world.make_market(elsewhere)
    await other.start()
    assert other.routing.affinity.preferred(buyer, asked) is None
    await other.stop()
    world.clock.advance(600)
    async with restarted(world) as again:
        affinity = again.routing.affinity
        assert affinity.preferred(buyer, asked) == served_by
        assert affinity.preferred(mate, asked) is None
        assert await as_superuser(world.database, admin, "SELECT * FROM platform.conversations") == []
    world.clock.advance(1_300)
    async with restarted(world) as late:
        assert late.routing.affinity.preferred(buyer, asked) is None


async def test_a_server_stops_though_what_it_would_keep_cannot_be_written(world: World) -> None:
    await world.seller()
    buyer = await world.buyer()
    await (await world.market.run(buyer, replace(chat(), conversation="tea"))).outcome()

    class Away:
        def transaction(self, _scope: object) -> None:
            raise Unavailable("the database is away")

    with capture_logs() as logs:
        await keep(cast(Database, Away()), world.clock, world.market.routing, world.node.node_id)
    assert [line["event"] for line in logs] == ["conversations were not kept"]
