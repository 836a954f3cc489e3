"""API keys at admission: a hard limit under 200 requests at once, and only the models a key is for."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.marketplace.world import (
    MODEL,
    SETTINGS,
    JobReady,
    Provider,
    World,
    chat,
    chat_terms,
    embed,
    fault_first,
    good,
    silent,
)
from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database
from yggdrasil.errors import Forbidden, NoProvider, ProviderFailed, SpendLimitReached
from yggdrasil.kernel import Network
from yggdrasil.keys import Keys
from yggdrasil.users import store_keys
from yggdrasil.users.store_keys import KeyTerms

CENT = 1_000_000


async def with_key(world: World, scope: Network, **terms: object) -> Network:
    """The scope of a key of that person."""
    key_id = world.ids.uuid()
    given = KeyTerms(**terms)  # type: ignore[arg-type]
    async with world.database.transaction(scope) as tx:
        await store_keys.insert_key(
            tx, scope.network_id, key_id, scope.user_id, "test", bytes(32), world.clock.now(), given
        )
    return replace(scope, key_id=key_id, key_models=given.models)


async def key_spend(world: World, scope: Network) -> tuple[int, int]:
    async with world.database.transaction(scope) as tx:
        row = await tx.fetchrow(
            "SELECT held_microcents, spent_microcents FROM tenant.key_spend WHERE period = 'total'"
        )
    assert row is not None
    return tuple(row)


async def test_of_200_requests_at_once_a_limit_for_10_admits_exactly_10(
    database: Database, clock: ManualClock, ids: SeededIds, keys: Keys
) -> None:
    settings = replace(SETTINGS, runs_per_user_max=256, first_chunk_seconds=60.0, stall_seconds=60.0)
    world = World(database, clock, ids, keys, settings)
    await world.start()
    try:
        scope = await world.person()
        await world.method(scope)
        seller = await world.device(scope)
        # Room for all of them: nothing but the key may refuse.
        await world.register(seller, jobs=256)
        seller.behaviour = silent
        buyer = await with_key(world, await world.buyer(10_000), spend_limit_microcents=10 * CENT)

        async def attempt() -> str:
            try:
                await world.market.run(buyer, chat(max_cost_cents=1, max_tokens=4_000))
            except SpendLimitReached:
                return "refused"
            return "admitted"

        seen = Counter(await asyncio.gather(*(attempt() for _ in range(200))))
        assert seen == {"admitted": 10, "refused": 190}
        assert await key_spend(world, buyer) == (10 * CENT, 0)
        books = await world.books()
        assert (books.open_holds, books.mismatched_keys) == (10, 0)
    finally:
        await world.stop()
    assert await key_spend(world, buyer) == (0, 0)
    assert (await world.no_holds()).sound


async def test_what_was_paid_counts_and_what_was_only_held_does_not(world: World) -> None:
    await world.seller(behaviour=good)
    buyer = await with_key(world, await world.buyer(), spend_limit_microcents=3 * CENT)
    total = 0
    for _ in range(3):
        run = await world.market.run(buyer, chat(max_cost_cents=2, max_tokens=4_000))
        total += (await run.outcome()).cost_microcents
    assert await key_spend(world, buyer) == (0, total)
    assert 0 < total < 3 * CENT
    with pytest.raises(SpendLimitReached):
        await world.market.run(buyer, chat(max_cost_cents=3, max_tokens=8_000))
    assert (await world.no_holds()).mismatched_keys == 0


async def test_a_key_is_for_its_models_in_every_scope(world: World) -> None:
    seller = await world.seller(behaviour=good)
    plain = await world.buyer()
    buyer = await with_key(world, plain, models=("another-model",))
    at_home = await with_key(world, seller.scope, models=("another-model",))
    for scope, request in (
        (buyer, chat()),
        (buyer, embed("hello")),
        (at_home, chat(scope="own")),
    ):
        with pytest.raises(Forbidden) as refused:
            await world.market.run(scope, request)
        assert refused.value.field == "model"
        assert "another-model" in refused.value.detail
    assert world.market.models(buyer) == []
    assert [view.model for view in world.market.models(plain)] == [MODEL]
    allowed = await with_key(world, plain, models=(MODEL,))
    assert (await (await world.market.run(allowed, chat())).outcome()).cost_microcents > 0
    assert (await world.no_holds()).sound


async def test_auto_chooses_among_the_models_of_the_key(world: World) -> None:
    cheap, dear = chat_terms(1, model="cheap"), chat_terms(50, model="dear")
    await world.seller(behaviour=good, terms=[cheap, dear])
    plain = await world.buyer()
    answered = []
    for scope in (plain, await with_key(world, plain, models=("dear",))):
        run = await world.market.run(scope, chat(model="auto"))
        answered.append((await run.outcome()).answer["model"])
    assert answered == ["cheap", "dear"]
    with pytest.raises(NoProvider):
        await world.market.run(await with_key(world, plain, models=("gone",)), chat(model="auto"))


async def test_a_key_that_expires_in_mid_request_holds_nothing_more(world: World) -> None:
    def fault_late(device: Provider, job: JobReady) -> None:
        world.clock.advance(10)
        fault_first(device, job)

    await world.seller("cheap", behaviour=fault_late, terms=[chat_terms(1)])
    await world.seller("dear", behaviour=good, terms=[chat_terms(50)])
    expires_at = world.clock.now() + timedelta(seconds=5)
    buyer = await with_key(world, await world.buyer(), expires_at=expires_at)
    cheap = world.market.offers(buyer, model=None, within=None, limit=1, cursor=None).items[0].offer
    run = await world.market.run(buyer, chat(order=[cheap]))
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert await key_spend(world, buyer) == (0, 0)
    assert (await world.no_holds()).sound
