"""Wishes under OpenRouter's names: each is met, or named as the one that is not."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.marketplace import world as scripts
from tests.marketplace.test_rest import BODY, ROOT, bearer
from tests.marketplace.world import Provider, World, chat, chat_terms
from yggdrasil.errors import InvalidInput, NoProvider, ProviderFailed
from yggdrasil.kernel import Network
from yggdrasil.marketplace.requests import ComputeRequest, State
from yggdrasil.marketplace.wishes import (
    THROUGHPUT_STEPS,
    PriceLimit,
    WishFields,
    latency_step,
    throughput_step,
    wishes_from,
    wishes_of,
)


def name_of(world: World, viewer: Network, device: Provider) -> str:
    """What `viewer` calls the one offer of a device."""
    (offer,) = [one for one in world.market.routing.visible(viewer) if one.device == device.device]
    return world.market._pseudonyms.name(viewer.network_id, offer.id)


def seen(world: World, device: Provider, metric: str, value: float, *, times: int = 40) -> None:
    routing = world.market.routing
    (offer,) = [one for one in routing._offers.values() if one.device == device.device]
    if metric == "throughput":
        # The test at the registration ran on this machine, and far too fast.
        routing._quality.remove(offer.id.bytes)
    for _ in range(times):
        routing._quality.observe(offer.id.bytes, metric, value, at_ms=routing._now_ms())


async def serve(world: World, buyer: Network, request: ComputeRequest) -> None:
    finished = await (await world.market.run(buyer, request)).outcome()
    assert finished.state is State.COMPLETED


async def test_offers_are_tried_in_the_order_wished(world: World) -> None:
    first = await world.seller("first", terms=[chat_terms(90)])
    second = await world.seller("second", terms=[chat_terms(50)])
    third = await world.seller("third", terms=[chat_terms(1)])
    buyer = await world.buyer()
    names = [name_of(world, buyer, device) for device in (first, second)]
    for _ in range(3):
        await serve(world, buyer, chat(order=names))
    assert [len(device.jobs) for device in (first, second, third)] == [3, 0, 0]
    first.behaviour = scripts.fault_first
    await serve(world, buyer, chat(order=names))
    assert (len(second.jobs), len(third.jobs)) == (1, 0)
    first.leave()
    second.leave()
    await serve(world, buyer, chat(order=names))
    assert len(third.jobs) == 1
    with pytest.raises(NoProvider) as caught:
        await world.market.run(buyer, chat(order=names, allow_fallbacks=False))
    assert caught.value.field == "order"
    await world.no_holds()


async def test_without_fallbacks_one_provider_is_tried(world: World) -> None:
    devices = [await world.seller(f"pc-{n}", behaviour=scripts.fault_first) for n in range(3)]
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat(allow_fallbacks=False))
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert sum(len(device.jobs) for device in devices) == 1
    run = await world.market.run(buyer, chat())
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert sum(len(device.jobs) for device in devices) > 2  # the control
    await world.no_holds()


@pytest.mark.parametrize(
    ("sort", "metric", "values"),
    [
        ("price", None, (0.0, 0.0)),
        ("latency", "latency_ms", (5_000.0, 20.0)),
        ("throughput", "throughput", (3.0, 900.0)),
    ],
)
async def test_sorted(world: World, sort: str, metric: str | None, values: tuple[float, float]) -> None:
    """The other one is far better by score, and is not taken."""
    good = await world.seller("good", terms=[chat_terms(30)])
    cheap = await world.seller("wanted", terms=[chat_terms(29 if metric is None else 500)])
    seen(world, good, "quality", 1.0)
    if metric is not None:
        seen(world, good, metric, values[0])
        seen(world, cheap, metric, values[1])
    buyer = await world.buyer()
    for _ in range(3):
        await serve(world, buyer, chat(sort=sort))
    assert (len(good.jobs), len(cheap.jobs)) == (0, 3)
    cheap.leave()
    await serve(world, buyer, chat(sort=sort))
    assert len(good.jobs) == 1


async def test_what_cannot_be_met_is_named(world: World) -> None:
    device = await world.seller(terms=[chat_terms(10)])
    seen(world, device, "throughput", 30.0)
    buyer = await world.buyer()
    cases = {
        "min_quality": chat(min_quality="fair"),
        "preferred_min_throughput": chat(preferred_min_throughput=45),
        "max_price": chat(max_price=PriceLimit(prompt=10, completion=9, unit_tokens=1_000)),
        "max_price_cents": chat(max_price_cents=9),
        "max_cost_microcents": chat(max_cost=0),
        "order": chat(order=["offer_" + "0" * 32], allow_fallbacks=False),
        "model": chat(model="other", sort="price", min_quality="high"),
    }
    for field, request in cases.items():
        with pytest.raises(NoProvider) as caught:
            await world.market.run(buyer, request)
        assert caught.value.field == field, caught.value.detail
        assert field.removesuffix("_cents").removesuffix("_microcents") in caught.value.detail
    seen(world, device, "quality", 1.0)
    for request in (
        chat(min_quality="high"),
        chat(preferred_min_throughput=20),
        chat(max_price=PriceLimit(prompt=10, unit_tokens=1_000)),
        chat(max_price=10_000),
    ):
        await serve(world, buyer, request)
    await world.no_holds()


async def test_parameters_that_no_offer_declares(world: World) -> None:
    await world.seller()
    buyer = await world.buyer()
    await serve(world, buyer, chat(require_parameters=True))
    request = chat(require_parameters=True)
    picky = scripts.replace(request, body={**request.body, "logit_bias": {"1": 2.0}})
    with pytest.raises(NoProvider) as caught:
        await world.market.run(buyer, picky)
    assert caught.value.field == "require_parameters"
    assert "logit_bias" in caught.value.detail
    wishes = wishes_from(require_parameters=False)
    await serve(world, buyer, scripts.replace(picky, wishes=wishes))


async def test_wishes_hold_at_home_too(world: World) -> None:
    owner = await world.person()
    device = await world.device(owner)
    await world.register(device, audience="own")
    with pytest.raises(NoProvider) as caught:
        await world.market.run(owner, chat(scope="own", min_quality="high"))
    assert caught.value.field == "min_quality"
    seen(world, device, "quality", 1.0)
    for request in (chat(scope="own", min_quality="high"), chat(scope="network", sort="price")):
        await serve(world, owner, request)
    # Asked of the market, one's own offers meet nothing.
    with pytest.raises(NoProvider):
        await world.market.run(owner, chat(sort="price"))


async def test_over_both_apis(world: World, http: httpx.AsyncClient) -> None:
    cheap = await world.seller("cheap", terms=[chat_terms(1)])
    dear = await world.seller("dear", terms=[chat_terms(90)])
    buyer = await world.buyer()
    me = bearer(world, buyer)
    name = name_of(world, buyer, dear)
    answer = await http.post(
        f"{ROOT}/requests",
        json={"kind": "chat", "request": BODY, "order": [name], "allow_fallbacks": False},
        headers=me,
    )
    assert answer.status_code == 201, answer.text
    for extra, headers in (
        ({"provider": {"order": [name]}}, {}),
        ({"yggdrasil": {"order": [name]}}, {}),
        ({}, {"x-yggdrasil-order": name, "x-yggdrasil-allow-fallbacks": "false"}),
    ):
        answer = await http.post("/v1/chat/completions", json={**BODY, **extra}, headers={**me, **headers})
        assert answer.status_code == 200, answer.text
    assert (len(cheap.jobs), len(dear.jobs)) == (0, 4)
    refused = [
        ({"provider": {"zdr": True}}, "zdr"),
        ({"provider": {"sort": "price"}, "yggdrasil": {"sort": "price"}}, "sort"),
        ({"provider": {"sort": "karma"}}, "sort"),
        ({"provider": {"max_price": {"request": 1}}}, "max_price"),
        ({"provider": {"max_price": {}}}, "max_price"),
        ({"yggdrasil": {"max_price": 1, "max_price_cents": 1}}, "max_price"),
        ({"yggdrasil": {"max_cost": 1, "max_cost_cents": 1}}, "max_cost"),
        ({"provider": {"preferred_min_throughput": 0}}, "preferred_min_throughput"),
        ({"provider": {"min_quality": 0.5}}, "min_quality"),
    ]
    for extra, word in refused:
        answer = await http.post("/v1/chat/completions", json={**BODY, **extra}, headers=me)
        assert answer.status_code == 400, extra
        assert word in answer.json()["error"]["message"], answer.text
    answer = await http.post(
        "/v1/chat/completions", json=BODY | {"provider": {"min_quality": "high"}}, headers=me
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["param"] == "min_quality"
    answer = await http.post("/v1/chat/completions", json=BODY, headers=me | {"x-yggdrasil-sort": "karma"})
    assert answer.status_code == 400


def test_a_wish_stands_in_one_place() -> None:
    assert wishes_of(WishFields(sort="price"), None, WishFields(scope="own")).sort == "price"
    assert wishes_of(None, WishFields(sort="price"), other={"sort": "latency"}).sort == "price"
    with pytest.raises(InvalidInput, match="sort"):
        wishes_of(WishFields(sort="price"), WishFields(sort="price"))


@given(st.floats(0.01, 50_000), st.floats(0.01, 50_000))
def test_steps_never_promise_too_much(wished: float, real: float) -> None:
    """An offer that passes by its step really is that fast; equal steps cannot be told apart."""
    wish = wishes_from(preferred_min_throughput=wished).throughput_min
    assert wish in THROUGHPUT_STEPS
    if throughput_step(real) >= wish:
        assert real >= wished
    assert latency_step(249) < latency_step(250) < latency_step(1_000) < latency_step(4_000)
