"""An account is deleted while somebody tops its wallet up: one of the two happens, never both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.payments.support import Money
from yggdrasil.errors import Conflict, Forbidden
from yggdrasil.kernel import Network, Role
from yggdrasil.payments import store, topup_store
from yggdrasil.payments.topup_store import CLOSED_SECONDS

ROUNDS = 20


async def close(money: Money, scope: Network) -> bool:
    """What deleting an account does first. False: it is refused."""
    try:
        await money.payments.close(scope)
    except Conflict:
        return False
    return True


async def top_up(money: Money, scope: Network) -> bool:
    """False: it is refused."""
    method = (await money.payments.list_methods(scope))[0]
    try:
        done = await money.payments.top_up(
            scope, method_id=method.method_id, amount_cents=500, idempotency_key="one"
        )
    except Conflict:
        return False
    assert done.state == "succeeded"
    return True


async def charging(money: Money, scope: Network) -> tuple[asyncio.Task[bool], asyncio.Event]:
    """A top-up on its way, and what lets the gateway answer."""
    asked, answer = asyncio.Event(), asyncio.Event()
    gateway = money.gateway
    assert gateway is not None
    charge = gateway.charge

    async def slow(**terms: object) -> object:
        asked.set()
        await answer.wait()
        return await charge(**terms)  # type: ignore[arg-type]

    gateway.charge = slow  # type: ignore[method-assign, assignment]
    waiting = asyncio.create_task(top_up(money, scope))
    await asyncio.wait_for(asked.wait(), 5)
    return waiting, answer


async def test_either_the_topup_or_the_deletion(money: Money) -> None:
    """Both begin at once, with a moment more for the one or the other."""
    ended = set()
    for number in range(ROUNDS):
        scope = await money.network()
        later = (number - ROUNDS // 2) / 2_000

        async def topped(scope: Network = scope, wait: float = later) -> bool:
            await asyncio.sleep(max(wait, 0))
            return await top_up(money, scope)

        async def closed(scope: Network = scope, wait: float = -later) -> bool:
            await asyncio.sleep(max(wait, 0))
            return await close(money, scope)

        both = await asyncio.gather(topped(), closed())
        assert sorted(both) == [False, True], both
        balance = await money.payments.balance(scope)
        assert balance.wallet_posted_microcents == (500_000_000 if both[0] else 0)
        ended.add(both[0])
    assert ended == {True, False}, "the control: both ways were taken"


async def test_a_topup_that_waits_for_the_gateway_stops_a_deletion(money: Money) -> None:
    scope = await money.network()
    waiting, answer = await charging(money, scope)
    assert not await close(money, scope)
    answer.set()
    assert await waiting
    assert not await close(money, scope)


async def test_a_topup_that_ends_between_the_two_looks_is_seen(
    money: Money, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion looks for open top-ups and at the balances; the top-up ends after the first of the looks."""
    scope = await money.network()
    waiting, answer = await charging(money, scope)

    def then_ends(look: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def looked(*terms: object, **named: object) -> object:
            seen = await look(*terms, **named)
            answer.set()
            assert await waiting
            return seen

        return looked

    monkeypatch.setattr(store, "balances", then_ends(store.balances))
    monkeypatch.setattr(topup_store, "open_count", then_ends(topup_store.open_count))
    assert not await close(money, scope)
    assert answer.is_set(), "the control: a look was waited for"
    monkeypatch.undo()
    assert (await money.payments.balance(scope)).wallet_posted_microcents == 500_000_000


async def test_a_closed_network_takes_no_topup(money: Money) -> None:
    scope, other = await money.network(), await money.network()
    assert await close(money, scope)
    method = (await money.payments.list_methods(scope))[0]
    with pytest.raises(Conflict, match="is deleted"):
        await money.payments.top_up(
            scope, method_id=method.method_id, amount_cents=500, idempotency_key="late"
        )
    assert await top_up(money, other)
    # The account could not be deleted after all: some minutes later its network goes on.
    money.clock.advance(CLOSED_SECONDS + 1)
    assert await top_up(money, scope)


async def test_only_an_owner_closes_a_network_and_only_his_own(money: Money) -> None:
    scope, other = await money.network(), await money.network()
    with pytest.raises(Forbidden, match="owner"):
        await money.payments.close(replace(scope, role=Role.ADMIN))
    for intruder in (replace(scope, role=Role.ADMIN), other):
        async with money.database.transaction(intruder) as tx:
            await topup_store.close(tx, network_id=scope.network_id, at=money.clock.now())
    assert await top_up(money, scope)
