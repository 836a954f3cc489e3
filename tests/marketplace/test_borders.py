"""What a trade tells its two sides, a member of the same network, and a stranger. Each of these fails for a
leak that is planted."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.marketplace import world as scripts
from tests.marketplace.world import World, chat, chat_terms
from yggdrasil.errors import LimitReached, NoProvider, NotFound
from yggdrasil.kernel import Network
from yggdrasil.marketplace.sealing import NONCE_BYTES, ResultSeal
from yggdrasil.marketplace.store import TransactionView

WORDS = {
    "quality": {"new", "low", "fair", "good", "high"},
    "latency": {"under_250_ms", "under_1_s", "under_4_s", "4_s_or_more"},
    "memory": {"under_16_gib", "under_64_gib", "under_256_gib", "256_gib_or_more", "unknown"},
    "world": {"midgard", "alfheim", "asgard"},
    "scope": {"own", "network", "market"},
}
HEX = set("0123456789abcdef")
GATES = {"owner", "only", "ignore", "tried", "context", "max_price", "online", "breaker", "capacity"}


async def bought(world: World, buyer: Network) -> UUID:
    run = await world.market.run(buyer, chat())
    await run.outcome()
    return run.transaction_id


def ids_in(value: Any) -> set[str]:
    """Every run of 32 hex digits in a view: whatever may be an id."""
    text = msgspec.json.encode(value).decode().replace("-", "")
    pieces = (text[at : at + 32] for at in range(len(text) - 31))
    return {piece for piece in pieces if set(piece) <= HEX}


async def views(world: World, scope: Network) -> list[TransactionView]:
    page = await world.market.transactions(scope, side=None, limit=100, cursor=None)
    return list(page.items)


async def test_a_member_does_not_see_what_another_bought(world: World) -> None:
    await world.seller()
    buyer = await world.buyer()
    member = await world.person(buyer)
    transaction = await bought(world, buyer)
    assert await world.market.result(buyer, transaction)  # the control: it is there
    assert await views(world, buyer)
    assert await views(world, member) == []
    with pytest.raises(NotFound):
        await world.market.transaction(member, transaction)
    with pytest.raises(NotFound):
        await world.market.result(member, transaction)
    with pytest.raises(NotFound):
        await world.market.cancel(member, transaction)


async def test_the_two_sides_of_a_trade_share_no_id(world: World) -> None:
    seller, buyer = await world.seller(), await world.buyer()
    await bought(world, buyer)
    (mine,), (theirs,) = await views(world, buyer), await views(world, seller.scope)
    assert (mine.side, theirs.side) == ("requester", "provider")
    assert ids_in(mine)
    assert not ids_in(mine) & ids_in(theirs)
    assert buyer.network_id.hex not in ids_in(theirs)
    assert seller.scope.network_id.hex not in ids_in(mine)


async def test_a_card_names_offers_as_its_reader_knows_them(world: World) -> None:
    seller, buyer = await world.seller(), await world.buyer()
    # One that fails a gate, so that the card has something to say of others.
    await world.register(
        await world.device(seller.scope, "laptop"), terms=[scripts.chat_terms(context_tokens_max=64)]
    )
    transaction = await bought(world, buyer)
    card = (await world.market.transaction(buyer, transaction)).decision_card
    shown = world.market.offers(buyer, model=None, within=None, limit=100, cursor=None).items
    assert card["chosen"] in {offer.offer for offer in shown}
    assert set(card["gates_failed"]) <= GATES
    text = json.dumps(card)
    for offer in world.market.routing._offers.values():
        assert offer.id.hex not in text


async def test_an_offer_is_shown_in_a_few_words(world: World) -> None:
    """What a stranger learns of each property is one of a few words: nothing to recognise an offer by."""
    await world.seller()
    buyer = await world.buyer()
    await bought(world, buyer)
    (offer,) = world.market.offers(buyer, model=None, within="market", limit=10, cursor=None).items
    shown = msgspec.to_builtins(offer)
    for name, words in WORDS.items():
        assert shown[name] in words, (name, shown[name])
    assert not {"provider_id", "status", "audience", "capacity_jobs"} & set(shown)


async def test_the_limit_of_requests_is_ones_own(world: World) -> None:
    world.market._serving._settings = scripts.replace(world.settings, runs_per_user_max=1)
    await world.seller(behaviour=scripts.silent)
    buyers = [await world.buyer() for _ in range(3)]
    runs = [await world.market.run(buyer, chat()) for buyer in buyers]
    with pytest.raises(LimitReached):  # the control: there is one
        await world.market.run(buyers[0], chat())
    for run in runs:
        run.close()
    await asyncio.gather(*world.market._serving._tasks)


def test_a_result_opens_where_it_was_sealed_and_nowhere_else() -> None:
    seal = ResultSeal(bytes(32))
    network, user, transaction, other = (UUID(int=number) for number in range(1, 5))
    nonce = bytes(NONCE_BYTES)
    sealed = seal.seal(network, user, transaction, nonce, b"result")
    assert seal.open(network, user, transaction, nonce, sealed) == b"result"
    assert seal.open(other, user, transaction, nonce, sealed) is None
    assert seal.open(network, other, transaction, nonce, sealed) is None
    assert seal.open(network, user, other, nonce, sealed) is None


async def test_what_a_member_offers_himself_shows_in_nothing_that_another_asks(world: World) -> None:
    """Alone or beside such an offer: the same refusals and the same cards, whatever the scope."""
    told: list[list[Any]] = [[], []]
    alone, beside = await world.buyer(), await world.buyer()
    mate = await world.person(home=beside)
    hidden = await world.device(mate, name="hidden")
    await world.register(hidden, audience="own", terms=[chat_terms(1)])
    scopes = ("own", "network", "market")
    for seen, who in zip(told, (alone, beside), strict=True):
        for scope in scopes:
            with pytest.raises(NoProvider) as refused:
                await world.market.run(who, chat(scope=scope))
            seen.append((refused.value.field, refused.value.detail))
    await world.seller()
    for seen, who in zip(told, (alone, beside), strict=True):
        await world.register(await world.device(who, name="mine"), audience="network", terms=[chat_terms(2)])
        for scope in scopes:
            run = await world.market.run(who, chat(scope=scope))
            card = (await world.market.transaction(who, (await run.outcome()).transaction_id)).decision_card
            assert card is not None
            seen.append((card["gates_failed"], len(card["candidates"]), card["feasible"]))
    assert told[0] == told[1]
