"""A conversation goes on where it was last served, while that is nearly the best and nobody is starved."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from tests.marketplace.test_feedback import offer_of
from tests.marketplace.test_rest import BODY, bearer
from tests.marketplace.test_wishes import seen
from tests.marketplace.world import World, chat, chat_terms
from tests.support import ManualClock, SeededIds
from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Network, Role
from yggdrasil.marketplace.affinity import (
    CONVERSATIONS_MAX,
    IDLE_SECONDS_MAX,
    SHARE_MAX,
    WINDOW,
    WINDOW_MIN,
    Affinity,
)
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import ComputeRequest
from yggdrasil.marketplace.wishes import wishes_from

REQUEST = chat()
NAMES = Pseudonyms(bytes(range(32)))


def said(conversation: str | None, **wishes: object) -> ComputeRequest:
    return replace(chat(**wishes), conversation=conversation)


async def ask(world: World, buyer: Network, request: ComputeRequest) -> dict[str, object]:
    finished = await (await world.market.run(buyer, request)).outcome()
    card: dict[str, object] = (await world.market.transaction(buyer, finished.transaction_id)).decision_card
    return card


async def test_the_last_one_is_preferred(world: World) -> None:
    devices = [await world.seller(f"pc-{n}", terms=[chat_terms(10)]) for n in range(4)]
    buyer = await world.buyer()
    for device in devices:
        for metric, value in (("quality", 1.0), ("success", 1.0), ("latency_ms", 5.0)):
            seen(world, device, metric, value, times=300)
        world.market.routing._estimate(offer_of(world, device).id)
    # The control: without a conversation they take turns.
    for _ in range(8):
        assert "affinity" not in await ask(world, buyer, said(None))
    assert sum(bool(device.jobs) for device in devices) > 1
    for device in devices:
        device.jobs.clear()
    first = await ask(world, buyer, said("tea"))
    assert "affinity" not in first
    for _ in range(6):
        card = await ask(world, buyer, said("tea"))
        # One in many is drawn by chance, to learn about the others.
        assert card["affinity"] or card["explored"]
    assert max(len(device.jobs) for device in devices) >= 4


async def test_not_if_it_is_far_worse_or_gone(world: World) -> None:
    first = await world.seller("first", terms=[chat_terms(10)])
    buyer = await world.buyer()
    await ask(world, buyer, said("tea"))
    second = await world.seller("second", terms=[chat_terms(10)])
    seen(world, second, "quality", 1.0)
    seen(world, first, "quality", 0.0)
    for device in (first, second):
        world.market.routing._estimate(offer_of(world, device).id)
    world.market.routing._router.tick(world.market.routing._now_ms() + 1)
    card = await ask(world, buyer, said("tea", ignore=[]))
    assert card["affinity"] is False or card["explored"]
    first.leave()
    await ask(world, buyer, said("tea"))
    assert len(second.jobs) >= 1


def scope_of(ids: SeededIds) -> Network:
    return Network(ids.uuid(), ids.uuid(), Role.OWNER)


def test_a_share_too_large_is_not_preferred(clock: ManualClock, ids: SeededIds) -> None:
    affinity, scope, one, other = Affinity(clock, NAMES), scope_of(ids), ids.uuid(), ids.uuid()
    request = said("tea")
    affinity.served(scope, request, one)
    for _ in range(WINDOW_MIN - 1):
        affinity.picked(request, one)
    assert affinity.preferred(scope, request) == one
    affinity.picked(request, one)
    assert affinity.preferred(scope, request) is None
    for _ in range(WINDOW_MIN):
        affinity.picked(request, other)
    assert affinity.preferred(scope, request) == one
    for n in range(WINDOW):
        affinity.picked(request, one if n < WINDOW * SHARE_MAX else other)
    assert affinity.preferred(scope, request) == one
    # Another model has a window of its own.
    elsewhere = replace(request, model="other")
    affinity.served(scope, elsewhere, one)
    assert affinity.preferred(scope, elsewhere) == one


def test_conversations_are_of_one_person_and_one_model(clock: ManualClock, ids: SeededIds) -> None:
    affinity, scope, offer = Affinity(clock, NAMES), scope_of(ids), ids.uuid()
    request = said("tea")
    affinity.served(scope, request, offer)
    assert affinity.preferred(scope, request) == offer
    for other, asked in (
        (replace(scope, user_id=ids.uuid()), request),
        (replace(scope, network_id=ids.uuid()), request),
        (scope, replace(request, model="other")),
        (scope, replace(request, conversation="coffee")),
        (scope, replace(request, conversation=None)),
    ):
        assert affinity.preferred(other, asked) is None
    clock.advance(IDLE_SECONDS_MAX + 1)
    assert affinity.preferred(scope, request) is None


def test_it_is_bounded(clock: ManualClock, ids: SeededIds) -> None:
    affinity, scope = Affinity(clock, NAMES), scope_of(ids)
    for n in range(CONVERSATIONS_MAX + 10):
        affinity.served(scope, replace(REQUEST, conversation=str(n)), UUID(int=n))
    assert len(affinity._last) == CONVERSATIONS_MAX
    assert affinity.preferred(scope, replace(REQUEST, conversation="0")) is None
    last = CONVERSATIONS_MAX + 9
    assert affinity.preferred(scope, replace(REQUEST, conversation=str(last))) == UUID(int=last)


async def test_over_the_api(world: World, http: httpx.AsyncClient) -> None:
    """By OpenAI's own fields, or by ours; none of it reaches the provider."""
    seller = await world.seller()
    buyer = await world.buyer()
    affinity = world.market.routing.affinity
    for n, extra in enumerate(
        ({"user": "a"}, {"prompt_cache_key": "b"}, {"yggdrasil": {"conversation": "c"}}, {"user": "a"})
    ):
        answer = await http.post("/v1/chat/completions", json=BODY | extra, headers=bearer(world, buyer))
        assert answer.status_code == 200, answer.text
        assert len(affinity._last) == min(n + 1, 3)
    assert all(b"conversation" not in job.body and b'"user":"a"' not in job.body for job in seller.jobs)
    with pytest.raises(InvalidInput):
        wishes_from(conversation="x" * 513)
    assert offer_of(world, seller).id in {offer for offer, _ in affinity._last.values()}


def test_what_is_kept_counts_on_from_where_it_was(clock: ManualClock, ids: SeededIds) -> None:
    before, scope = Affinity(clock, NAMES), scope_of(ids)
    old, young = replace(REQUEST, conversation="old"), replace(REQUEST, conversation="young")
    before.served(scope, old, ids.uuid())
    clock.advance(IDLE_SECONDS_MAX - 10)
    offer = ids.uuid()
    before.served(scope, young, offer)
    clock.advance(5)
    after = Affinity(clock, NAMES)
    after.recall(list(before.kept()))
    assert after.preferred(scope, young) == offer
    assert after.preferred(scope, old) is not None
    clock.advance(6)
    assert after.preferred(scope, old) is None
    assert [seconds for _, _, seconds in after.kept()] == [11]
    # Another server's key calls the same conversation something else.
    foreign = Affinity(clock, Pseudonyms(bytes(32)))
    foreign.recall(before.kept())
    assert foreign.preferred(scope, young) is None
