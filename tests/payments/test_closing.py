"""An account is deleted while somebody tops its wallet up: one of the two happens, never both."""

from __future__ import annotations

import asyncio

import pytest

from tests.payments.support import Money
from yggdrasil.errors import Conflict
from yggdrasil.kernel import Identity, Network
from yggdrasil.users import store as users_store

ROUNDS = 20


async def close(money: Money, scope: Network) -> bool:
    """What deleting an account does in its transaction. False: it is refused."""
    try:
        async with money.database.transaction(Identity(scope.network_id, scope.user_id)) as tx:
            await money.payments.check_empty(tx, scope.network_id)
            epoch = await users_store.close_account(tx, scope.user_id, scope.network_id, money.clock.now())
            return epoch is not None
    except Conflict:
        return False


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
    assert not await close(money, scope)
    answer.set()
    assert await waiting
    assert not await close(money, scope)


async def test_a_closed_network_takes_no_topup(money: Money) -> None:
    scope, other = await money.network(), await money.network()
    assert await close(money, scope)
    assert not await close(money, scope)
    method = (await money.payments.list_methods(scope))[0]
    with pytest.raises(Conflict, match="is deleted"):
        await money.payments.top_up(
            scope, method_id=method.method_id, amount_cents=500, idempotency_key="late"
        )
    assert await top_up(money, other)
