"""`model: "auto"`: chosen by kind, context, price and quality; told why; the same for the same state."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from tests.marketplace import world as scripts
from tests.marketplace.test_rest import BODY, ROOT, bearer
from tests.marketplace.test_wishes import name_of, seen
from tests.marketplace.world import World, chat, chat_terms, embed_terms
from yggdrasil.errors import NoProvider
from yggdrasil.kernel import Network
from yggdrasil.marketplace.requests import ComputeRequest
from yggdrasil.marketplace.run import Finished


async def ask(world: World, buyer: Network, request: ComputeRequest) -> Finished:
    return await (await world.market.run(buyer, request)).outcome()


async def test_the_best_score_answers_and_says_why(world: World) -> None:
    await world.seller("dear", terms=[chat_terms(900, model="model-dear")])
    await world.seller("cheap", terms=[chat_terms(5, model="model-cheap")])
    await world.seller("short", terms=[chat_terms(1, model="model-short", context_tokens_max=64)])
    await world.seller("vectors", terms=[embed_terms(1)])
    buyer = await world.buyer()
    finished = await ask(world, buyer, chat(model="auto"))
    assert finished.answer["model"] == "model-cheap"
    choice = finished.told()["model_choice"]
    assert choice["chosen"] == "model-cheap"
    reasons = {one["model"]: (one["chosen"], one["reason"]) for one in choice["candidates"]}
    assert reasons == {
        "model-cheap": (True, "highest score"),
        "model-dear": (False, "lower score"),
        "model-short": (False, "context: none of its offers fits"),
    }
    view = await world.market.transaction(buyer, finished.transaction_id)
    assert view.model == "model-cheap"
    assert view.decision_card["model_choice"] == choice
    for _ in range(5):
        assert (await ask(world, buyer, chat(model="auto"))).told()["model_choice"]["chosen"] == "model-cheap"
    await world.no_holds()


async def test_quality_and_wishes_decide_too(world: World) -> None:
    good = await world.seller("good", terms=[chat_terms(10, model="model-b")])
    poor = await world.seller("poor", terms=[chat_terms(9, model="model-a")])
    seen(world, good, "quality", 1.0)
    seen(world, poor, "quality", 0.0)
    buyer = await world.buyer()
    assert (await ask(world, buyer, chat(model="auto"))).answer["model"] == "model-b"
    dear = await ask(world, buyer, chat(model="auto", max_price_cents=9))
    assert dear.answer["model"] == "model-a"
    reasons = {one["model"]: one["reason"] for one in dear.told()["model_choice"]["candidates"]}
    assert reasons["model-b"] == "max_price: none of its offers fits"
    strict = await ask(world, buyer, chat(model="auto", min_quality="high"))
    assert strict.answer["model"] == "model-b"
    only = [name_of(world, buyer, poor)]
    assert (await ask(world, buyer, chat(model="auto", only=only))).answer["model"] == "model-a"
    assert (await ask(world, buyer, chat(model="auto", ignore=only))).answer["model"] == "model-b"
    order = await ask(world, buyer, chat(model="auto", order=only, allow_fallbacks=False))
    assert order.answer["model"] == "model-a"
    cases = {
        "max_price_cents": chat(model="auto", max_price_cents=1),
        "max_tokens": chat(model="auto", max_tokens=100_000),
        "only": chat(model="auto", only=["offer_" + "0" * 32]),
        "preferred_min_throughput": chat(model="auto", preferred_min_throughput=50_000),
        "max_cost_microcents": chat(model="auto", max_cost_microcents=1),
    }
    seen(world, good, "throughput", 5.0)
    seen(world, poor, "throughput", 5.0)
    for field, request in cases.items():
        with pytest.raises(NoProvider) as caught:
            await world.market.run(buyer, request)
        assert caught.value.field == field, caught.value.detail
    await world.no_holds()


async def test_a_busy_model_gives_way_to_the_next(world: World) -> None:
    cheap = await world.seller("cheap", scripts.silent, [chat_terms(1, model="model-cheap")])
    await world.seller("dear", terms=[chat_terms(90, model="model-dear")])
    buyer = await world.buyer()
    waiting = [await world.market.run(buyer, chat(model="auto")) for _ in range(4)]
    assert len(cheap.jobs) <= 4
    finished = await ask(world, buyer, chat(model="auto"))
    assert finished.answer["model"] == "model-dear"
    (cheapest, _) = finished.told()["model_choice"]["candidates"]
    assert (cheapest["model"], cheapest["chosen"]) == ("model-cheap", False)
    assert "busy" in cheapest["reason"]
    for run in waiting:
        run.close()
    cheap.leave()
    assert (await ask(world, buyer, chat(model="auto"))).answer["model"] == "model-dear"


async def test_nobody_learns_of_what_he_cannot_reach(world: World) -> None:
    """Own and network offers of others are in no choice, and a private market offer of one's own is not."""
    owner = await world.person()
    device = await world.device(owner)
    await world.register(device, audience="network", terms=[chat_terms(1, model="model-home")])
    buyer = await world.buyer()
    with pytest.raises(NoProvider) as caught:
        await world.market.run(buyer, chat(model="auto"))
    assert caught.value.field == "model"
    await world.seller("else", terms=[chat_terms(1, model="model-market")])
    choice = (await ask(world, buyer, chat(model="auto"))).told()["model_choice"]
    assert "model-home" not in msgspec.json.encode(choice).decode()
    home = await ask(world, owner, chat(model="auto", scope="network"))
    assert [one["model"] for one in home.told()["model_choice"]["candidates"]] == ["model-home"]


async def test_over_both_apis(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    me = bearer(world, await world.buyer())
    answer = await http.post("/v1/chat/completions", json=BODY | {"model": "auto"}, headers=me)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == BODY["model"]
    assert answer.json()["yggdrasil"]["model_choice"]["chosen"] == BODY["model"]
    answer = await http.post(
        f"{ROOT}/requests", json={"kind": "chat", "request": BODY | {"model": "auto"}}, headers=me
    )
    assert answer.json()["transaction"]["decision_card"]["model_choice"]["chosen"] == BODY["model"]
    plain = await http.post("/v1/chat/completions", json=BODY, headers=me)
    assert "model_choice" not in plain.json()["yggdrasil"]


async def test_the_name_is_reserved(world: World, http: httpx.AsyncClient) -> None:
    owner = await world.buyer()
    await world.device(owner)
    asked = {"device_id": "pc", "models": [{"model": "auto", "price_cents": 1}]}
    answer = await http.post(f"{ROOT}/providers/register", json=asked, headers=bearer(world, owner))
    assert answer.status_code == 400
    assert "auto" in answer.text
