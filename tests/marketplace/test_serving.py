"""One request, end to end, and everything a provider may do to it. The books are checked after each."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from tests.marketplace import world as scripts
from tests.marketplace.world import World, chat, chat_terms, embed, embed_terms
from tests.support import START
from yggdrasil import heidrun
from yggdrasil.errors import NoProvider, PaymentMethodRequired, PaymentRequired, ProviderFailed, Timeout
from yggdrasil.kernel import System
from yggdrasil.marketplace import store_nodes
from yggdrasil.marketplace.bodies import ChatBody, chat_request
from yggdrasil.marketplace.requests import Offer, State
from yggdrasil.marketplace.run import Chunk, Finished
from yggdrasil.marketplace.wishes import wishes_from


async def test_a_market_chat_is_streamed_and_paid(world: World) -> None:
    seller = await world.seller()
    buyer = await world.buyer(cents=100)
    run = await world.market.run(buyer, chat())
    held = await world.books()
    assert held.open_holds == 1
    parts = [part async for part in run.parts()]
    chunks = [json.loads(part.data) for part in parts if isinstance(part, Chunk)]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == " word" * 5
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    last = parts[-1]
    assert isinstance(last, Finished)
    assert last.state is State.COMPLETED
    total = last.prompt_tokens + last.completion_tokens
    bill = heidrun.settle(total, 10, 1000, 1200, "per_statement")
    assert last.cost_microcents == bill.total_microcents > 0
    books = await world.no_holds()
    assert books.cost_microcents == bill.total_microcents
    assert books.fee_microcents == bill.fee_microcents
    balance = await world.payments.balance(buyer)
    assert balance.wallet_posted_microcents == 100_000_000 - bill.total_microcents
    assert (await world.payments.balance(seller.scope)).earnings_microcents == bill.earnings_microcents

    mine = await world.market.transaction(buyer, run.transaction_id)
    assert (mine.side, mine.state, mine.total_microcents) == ("requester", "COMPLETED", bill.total_microcents)
    page = await world.market.transactions(seller.scope, side=None, limit=10, cursor=None)
    theirs = page.items[0]
    assert (theirs.side, theirs.state, theirs.earnings_microcents) == (
        "provider",
        "COMPLETED",
        bill.earnings_microcents,
    )
    assert theirs.transaction_id != run.transaction_id
    assert theirs.decision_card is None
    stored = json.loads(await world.market.result(buyer, run.transaction_id))
    assert stored["choices"][0]["message"]["content"] == " word" * 5


async def test_nothing_of_the_provider_or_the_requester_leaks(world: World) -> None:
    seller = await world.seller()
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    seen = [
        part.data.decode() if isinstance(part, Chunk) else json.dumps(part.whole())
        async for part in run.parts()
    ]
    text = "".join(seen)
    assert " word" in text  # the control: it was read
    for secret in ("SECRET", "gguf", "alice-pc", str(seller.device), str(seller.scope.network_id)):
        assert secret not in text
    card = json.dumps((await world.market.transaction(buyer, run.transaction_id)).decision_card)
    offer = (await world.market.provider(seller.scope, str(await _provider_id(world, seller)))).offers[0]  # type: ignore[union-attr]
    assert offer.offer not in card
    assert seller.scope.network_id.hex not in card
    body = json.loads(seller.jobs[0].body)
    assert set(body) == {"model", "messages", "stream", "max_tokens"}
    assert "alice" not in seller.jobs[0].body.decode()


async def _provider_id(world: World, seller: scripts.Provider) -> object:
    offers = world.market.offers(seller.scope, model=None, within="own", limit=1, cursor=None)
    return offers.items[0].provider_id


async def test_embeddings_are_checked_and_paid(world: World) -> None:
    await world.seller(terms=[embed_terms()])
    buyer = await world.buyer()
    finished = await (await world.market.run(buyer, embed("one text", "another text"))).outcome()
    answer = finished.whole()
    assert [item["embedding"] for item in answer["data"]] == [[0.25, -0.5, 0.0], [0.25, -0.5, 1.0]]
    assert answer["usage"]["prompt_tokens"] == finished.prompt_tokens > 0
    assert finished.cost_microcents > 0
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents


async def test_a_missing_vector_costs_nothing(world: World) -> None:
    await world.seller(behaviour=scripts.too_few_vectors, terms=[embed_terms()])
    buyer = await world.buyer()
    run = await world.market.run(buyer, embed("one text", "another text"))
    with pytest.raises(ProviderFailed):
        await run.outcome()
    assert (await world.no_holds()).cost_microcents == 0
    assert (await world.market.transaction(buyer, run.transaction_id)).state == "FAILED"


@pytest.mark.parametrize("behaviour", [scripts.fault_after, scripts.half_then_silent])
async def test_a_fault_after_the_first_chunk_fails_and_costs_nothing(
    world: World, behaviour: scripts.Behaviour
) -> None:
    await world.seller("bad", behaviour)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    chunks: list[object] = []

    async def read() -> None:
        async for part in run.parts():
            chunks.append(part)  # noqa: PERF401  what came before the error counts

    with pytest.raises(ProviderFailed):
        await read()
    assert len(chunks) == 1
    assert (await world.no_holds()).cost_microcents == 0
    assert (await world.market.transaction(buyer, run.transaction_id)).state == "FAILED"


async def test_a_lie_about_tokens_is_paid_up_to_the_tolerance(world: World) -> None:
    seller = await world.seller(behaviour=scripts.lying)
    buyer = await world.buyer()
    before = world.market.routing.standing(_offer(world, seller)).quality
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert finished.completion_tokens == 5 * 5 // 4
    assert finished.prompt_tokens < 60
    assert world.market.routing.standing(_offer(world, seller)).quality < before
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents


def _offer(world: World, seller: scripts.Provider) -> Offer:
    return next(o for o in world.market.routing.visible(seller.scope) if o.device == seller.device)


@pytest.mark.parametrize("seconds", [1, 120])
async def test_a_deadline_too_short_for_an_answer_is_not_held_against_the_provider(
    world: World, seconds: int
) -> None:
    """Else a requester could ruin providers for nothing. With time enough it is (the control)."""
    settings = scripts.replace(world.settings, first_chunk_seconds=30.0, stall_seconds=30.0)
    world.market._serving._settings = settings
    seller = await world.seller(behaviour=scripts.silent)
    before = world.market.routing.standing(_offer(world, seller)).availability
    run = await world.market.run(await world.buyer(), chat(deadline_seconds=seconds))
    await asyncio.wait_for(seller.got_job.wait(), 5)
    world.clock.advance(seconds + 1)
    world.hub.on_timer()
    with pytest.raises(Timeout):
        await run.outcome()
    after = world.market.routing.standing(_offer(world, seller)).availability
    assert (after == before) if seconds == 1 else (after < before)
    async with world.database.transaction(System("router-recall")) as tx:
        past = await store_nodes.past_attempts(tx, START, 10, settings.first_chunk_seconds)
    assert len(past) == (0 if seconds == 1 else 1)
    assert (await world.no_holds()).cost_microcents == 0


async def test_the_deadline_cuts_a_stream_and_what_came_is_paid(world: World) -> None:
    def slow(device: scripts.Provider, job: scripts.JobReady) -> None:
        for _ in range(3):
            device.client.send(job.link, scripts.chunk(" word"))

    await world.seller(behaviour=slow)
    world.market._serving._settings = scripts.replace(world.settings, stall_seconds=30.0)
    run = await world.market.run(await world.buyer(), chat(deadline_seconds=10))
    parts = [await run.pipe.get() for _ in range(3)]
    assert all(isinstance(part, Chunk) for part in parts)
    world.clock.advance(11)
    world.hub.on_timer()
    finished = await run.outcome()
    assert (finished.state, finished.completion_tokens) == (State.COMPLETED, 3)
    assert finished.answer["choices"][0]["finish_reason"] == "length"
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents > 0


async def test_what_a_model_is_asked_for_reaches_the_provider(world: World) -> None:
    seller = await world.seller()
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    asked = {
        "stop": ["end"],
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [tool],
        "tool_choice": "auto",
        "seed": 7,
        "temperature": 0.5,
        "n": 1,
    }
    body = msgspec.convert(
        {"model": scripts.MODEL, "messages": [{"role": "user", "content": "x"}], **asked}, ChatBody
    )
    await (await world.market.run(await world.buyer(), chat_request(body, wishes_from()))).outcome()
    sent = json.loads(seller.jobs[0].body)
    assert {name: sent[name] for name in asked} == asked
    with pytest.raises(msgspec.ValidationError, match=r"\$\.n"):
        msgspec.convert({"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 17}, ChatBody)


async def test_an_empty_answer_costs_nothing(world: World) -> None:
    await world.seller(behaviour=scripts.empty)
    buyer = await world.buyer()
    finished = await (await world.market.run(buyer, chat())).outcome()
    assert (finished.state, finished.cost_microcents) == (State.COMPLETED, 0)
    assert (await world.no_holds()).cost_microcents == 0


async def test_the_highest_cost_cuts_the_stream(world: World) -> None:
    await world.seller(behaviour=scripts.endless, terms=[chat_terms(10)])
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat(max_tokens=None, max_cost_microcents=500_000))
    finished = await run.outcome()
    assert finished.answer["choices"][0]["finish_reason"] == "length"
    assert 450_000 < finished.cost_microcents <= 500_000
    assert (await world.no_holds()).cost_microcents == finished.cost_microcents


async def test_hanging_up_pays_for_what_was_delivered(world: World) -> None:
    def first_only(device: scripts.Provider, job: scripts.JobReady) -> None:
        device.client.send(job.link, scripts.chunk(" word word"))

    seller = await world.seller(behaviour=first_only)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    async for part in run.parts():
        assert isinstance(part, Chunk)
        break
    run.close()
    await asyncio.wait_for(seller.got_cancel.wait(), 5)
    await _ended(world, run.transaction_id)
    view = await world.market.transaction(buyer, run.transaction_id)
    assert (view.state, view.completion_tokens) == ("CANCELLED", 2)
    assert view.total_microcents > 0
    assert (await world.no_holds()).cost_microcents == view.total_microcents


async def _ended(world: World, transaction_id: object) -> None:
    await asyncio.wait_for(asyncio.gather(*world.market._serving._tasks), 5)


async def test_cancelling_before_anything_came_costs_nothing(world: World) -> None:
    seller = await world.seller(behaviour=scripts.silent)
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    await asyncio.wait_for(seller.got_job.wait(), 5)
    await world.market.cancel(buyer, run.transaction_id)
    finished = await run.outcome()
    assert (finished.state, finished.cost_microcents) == (State.CANCELLED, 0)
    assert (await world.no_holds()).cost_microcents == 0


async def test_own_and_network_are_free_and_need_no_method(world: World) -> None:
    owner = await world.person()
    mate = await world.person(owner)
    device = await world.device(owner)
    await world.register(device, audience="network")
    for scope, within in ((owner, "own"), (owner, "network"), (mate, "network")):
        finished = await (await world.market.run(scope, chat(scope=within))).outcome()
        assert (finished.state, finished.cost_microcents) == (State.COMPLETED, 0)
    with pytest.raises(NoProvider) as caught:
        await world.market.run(mate, chat(scope="own"))
    assert caught.value.field == "scope"
    with pytest.raises(NoProvider):
        await world.market.run(mate, chat(scope="market"))
    stranger = await world.buyer()
    for within in ("own", "network", "market"):
        with pytest.raises(NoProvider):
            await world.market.run(stranger, chat(scope=within))
    assert (await world.no_holds()).cost_microcents == 0


async def test_market_needs_money_and_a_method(world: World) -> None:
    await world.seller()
    poor = await world.buyer(cents=0)
    with pytest.raises(PaymentRequired):
        await world.market.run(poor, chat())
    nobody = await world.person()
    with pytest.raises(PaymentMethodRequired):
        await world.market.run(nobody, chat())
    page = await world.market.transactions(poor, side=None, limit=10, cursor=None)
    assert page.items == []
    await world.no_holds()


async def test_unmet_wishes_are_named(world: World) -> None:
    seller = await world.seller(terms=[chat_terms(10)])
    buyer = await world.buyer()
    offer = world.market.offers(buyer, model=None, within=None, limit=10, cursor=None).items[0]
    assert not offer.mine
    cases = {
        "model": chat(model="other"),
        "max_price_cents": chat(max_price_cents=9),
        "max_cost_microcents": chat(max_cost_microcents=1),
        "ignore": chat(ignore=[offer.offer]),
        "only": chat(only=["offer_" + "0" * 32]),
        "max_tokens": chat(max_tokens=100_000),
    }
    for field, request in cases.items():
        with pytest.raises(NoProvider) as caught:
            await world.market.run(buyer, request)
        assert caught.value.field == field, caught.value.detail
    seller.leave()
    with pytest.raises(NoProvider) as caught:
        await world.market.run(buyer, chat())
    assert "online" in caught.value.detail
    await seller.dial()
    for request in (chat(max_price_cents=10), chat(only=[offer.offer])):
        assert (await (await world.market.run(buyer, request)).outcome()).state is State.COMPLETED
    await world.no_holds()
