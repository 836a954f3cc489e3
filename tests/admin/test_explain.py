"""`explain`: the rows of one request, for a reason that every network concerned can read."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from tests.admin.conftest import House
from tests.marketplace.world import JobReady, Provider, World, chat, chat_terms, chunk, fault_first, good
from yggdrasil.admin.explain import Explanation, lines, open_request
from yggdrasil.errors import InvalidInput, NotFound
from yggdrasil.kernel import PLATFORM_NETWORK, Network, System


async def trade(world: World) -> tuple[Network, Network, UUID]:
    """A request that one provider failed and another answered: (buyer, seller, its id)."""
    await world.seller("broken", behaviour=fault_first, terms=[chat_terms(1)])
    seller = await world.seller("good", behaviour=good, terms=[chat_terms(50)])
    buyer = await world.buyer()
    broken = world.market.offers(buyer, model=None, within=None, limit=1, cursor=None).items[0].offer
    run = await world.market.run(buyer, chat(order=[broken]))
    assert (await run.outcome()).attempts == 2
    return buyer, seller.scope, run.transaction_id


async def explain(world: World, request: UUID, reason: str = "a question") -> Explanation:
    async with world.database.transaction(System("explain")) as tx:
        return await open_request(
            tx,
            request,
            reason=reason,
            operator_id=None,
            job="explain",
            ids=world.ids,
            at=world.clock.now(),
        )


async def test_it_shows_states_attempts_card_hold_and_ledger(world: World) -> None:
    buyer, seller, request = await trade(world)
    found = await explain(world, request)
    assert found.request_id == request
    assert [one["state"] for one in found.attempts] == ["failed", "completed"]
    assert [one["side"] for one in found.transactions] == ["requester", "provider", "provider"]
    assert [one["state"] for one in found.transactions if one["side"] == "requester"] == ["COMPLETED"]
    assert found.decision
    assert "posted" in {one["state"] for one in found.holds}
    assert sum(one["amount_microcents"] for one in found.entries) == 0
    assert {one["network_id"] for one in found.entries} == {
        buyer.network_id,
        seller.network_id,
        PLATFORM_NETWORK,
    }
    assert not any({"idempotency_key", "decision_card"} & set(one) for one in found.transactions)
    text = "\n".join(lines(found))
    for part in ("COMPLETED", "attempt 1 failed", "attempt 2 completed", "hold posted", "ledger", "decision"):
        assert part in text, part


async def test_it_shows_what_was_judged_of_each_attempt(world: World) -> None:
    _, _, request = await trade(world)
    found = await explain(world, request)
    marks = [(one["quality_ppm"], one["verdict"]) for one in found.attempts]
    assert marks == [(None, None), (0, "exaggerated")]
    judged = [one["quality_ppm"] for one in found.transactions if one["state"] == "COMPLETED"]
    assert judged == [0, 0], "either side's"

    def repeating(device: Provider, job: JobReady) -> None:
        for _ in range(200):
            device.client.send(job.link, chunk(" same"))
        device.client.send(job.link, chunk(finish="stop"))
        device.client.done(job.link, prompt_tokens=11, completion_tokens=200)

    for provider in world.providers:
        provider.behaviour = repeating
    run = await world.market.run(await world.buyer(10_000), chat(max_tokens=1_000))
    await run.outcome()
    found = await explain(world, run.transaction_id)
    (attempt,) = found.attempts
    assert (attempt["quality_ppm"], attempt["verdict"]) == (400_000, "repetitive")
    text = "\n".join(lines(found))
    assert re.search(r"^  verdict +repetitive$", text, re.M)
    assert len(re.findall(r"^  quality_ppm +400000$", text, re.M)) == 3  # the attempt, and either side's row


async def test_the_other_sides_id_and_an_attempts_lead_to_the_same_request(world: World) -> None:
    _, seller, request = await trade(world)
    sold = (await world.market.transactions(seller, side="provider", limit=1, cursor=None)).items[0]
    whole = await explain(world, request)
    for one in (sold.transaction_id, whole.attempts[0]["attempt_id"]):
        assert (await explain(world, one)).attempts == whole.attempts


async def test_every_network_concerned_reads_that_it_was_opened(house: House) -> None:
    world = house.world
    buyer, seller, request = await trade(world)
    await explain(world, request, "the buyer asked why it was slow")
    mine = (await house.ask(buyer, "GET", "/api/v1/users/me/openings")).json()["items"]
    theirs = (await house.ask(seller, "GET", "/api/v1/users/me/openings")).json()["items"]
    assert len(mine) == len(theirs) == 1
    assert mine[0]["subject_id"] == str(request)
    assert mine[0]["operator_id"] is None
    assert mine[0]["reason"] == theirs[0]["reason"] == "the buyer asked why it was slow"
    # Each side reads of its own row only.
    assert str(request) not in str(theirs)
    assert mine[0]["opening_id"] != theirs[0]["opening_id"]
    # Inside the network: the person whose row it was, and owners; a mate reads nothing.
    mate = await world.person(buyer)
    stranger = await world.person()
    for nobody in (mate, stranger):
        assert (await house.ask(nobody, "GET", "/api/v1/users/me/openings")).json()["items"] == []
    async with world.database.transaction(System("test")) as tx:
        details = [
            row["detail"] for row in await tx.fetch("SELECT detail FROM jobs.audit WHERE scope = 'opening'")
        ]
    assert len(details) == 3  # both providers' networks and the buyer's
    assert all("the buyer asked why it was slow" in detail for detail in details)


@pytest.mark.parametrize("reason", ["", "  ", "ab", "x" * 301, "two\nlines"])
async def test_without_a_reason_nothing_is_opened(world: World, reason: str) -> None:
    buyer, _, request = await trade(world)
    with pytest.raises(InvalidInput) as refused:
        await explain(world, request, reason)
    assert refused.value.field == "reason"
    async with world.database.transaction(buyer) as tx:
        assert await tx.fetchval("SELECT count(*) FROM tenant.openings") == 0


async def test_an_id_that_never_was(world: World) -> None:
    await trade(world)
    with pytest.raises(NotFound):
        await explain(world, world.ids.uuid())
