"""Holds and settlements, one at a time: what is posted, what is refused, and that an end is the only one."""

from __future__ import annotations

import pytest

from tests.payments.support import CENT, Money
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LedgerError,
    MoneyOverflow,
    PaymentMethodRequired,
    PaymentRequired,
    ScopeError,
)
from yggdrasil.kernel import MICROCENTS_MAX, PLATFORM_NETWORK, Network, Settle


async def wallet(money: Money, scope: Network) -> tuple[int, int, int]:
    """(posted, held, earnings)."""
    found = await money.payments.balance(scope)
    return found.wallet_posted_microcents, found.wallet_held_microcents, found.earnings_microcents


async def test_settlement_moves_cost_fee_and_earnings(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, 40 * CENT)
    assert await wallet(money, payer) == (100 * CENT, 40 * CENT, 0)
    assert (
        await money.settle(payer.network_id, hold_id, 30 * CENT, seller.network_id, fee=3 * CENT) == "posted"
    )
    assert await wallet(money, payer) == (70 * CENT, 0, 0)
    assert await wallet(money, seller) == (0, 0, 27 * CENT)
    books = await money.payments.trial_balance()
    assert books.sound
    assert (books.cost_microcents, books.fee_microcents, books.earnings_microcents) == (
        30 * CENT,
        3 * CENT,
        27 * CENT,
    )
    assert (books.open_holds, books.held_microcents) == (0, 0)
    assert (books.wallets_microcents, books.gateway_microcents) == (70 * CENT, -100 * CENT)


async def test_duplicate_settlement_is_already(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    assert await money.settle(payer.network_id, hold_id, CENT, seller.network_id, fee=1) == "posted"
    before = await money.payments.trial_balance()
    assert await money.settle(payer.network_id, hold_id, CENT, seller.network_id, fee=1) == "already"
    assert await money.payments.trial_balance() == before
    with pytest.raises(LedgerError, match="another settlement"):
        await money.settle(payer.network_id, hold_id, CENT - 1, seller.network_id)
    with pytest.raises(LedgerError, match="another transfer"):
        await money.settle(payer.network_id, hold_id, CENT, seller.network_id, transfer_id=money.ids.uuid())
    assert await money.payments.trial_balance() == before


@pytest.mark.parametrize("state", ["voided", "expired"])
async def test_settlement_after_the_end_posts_nothing(money: Money, state: str) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    assert await money.void(payer.network_id, hold_id, state)  # type: ignore[arg-type]
    assert await money.settle(payer.network_id, hold_id, CENT, seller.network_id) == "ended"
    assert not await money.void(payer.network_id, hold_id)
    assert await wallet(money, payer) == (100 * CENT, 0, 0)
    assert await wallet(money, seller) == (0, 0, 0)
    assert (await money.payments.trial_balance()).sound


async def test_void_after_settlement_is_false(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    await money.settle(payer.network_id, hold_id, CENT, seller.network_id)
    assert not await money.void(payer.network_id, hold_id, "expired")
    assert not await money.void(payer.network_id, money.ids.uuid())
    assert await wallet(money, payer) == (99 * CENT, 0, 0)


async def test_hold_over_the_free_balance_is_refused(money: Money) -> None:
    payer = await money.network(50)
    await money.hold(payer.network_id, 50 * CENT - 1)
    with pytest.raises(PaymentRequired):
        await money.hold(payer.network_id, 2)
    await money.hold(payer.network_id, 1)
    assert await wallet(money, payer) == (50 * CENT, 50 * CENT, 0)
    with pytest.raises(PaymentRequired):
        await money.hold((await money.network()).network_id, 1)


async def test_hold_needs_a_verified_method(money: Money) -> None:
    payer = await money.network(50)
    (method,) = await money.payments.list_methods(payer)
    await money.payments.remove_method(payer, method.method_id)
    with pytest.raises(PaymentMethodRequired):
        await money.hold(payer.network_id, 1)
    assert await wallet(money, payer) == (50 * CENT, 0, 0)


@pytest.mark.parametrize("amount", [0, -1, True, 1.0])
async def test_hold_of_no_amount_is_refused(money: Money, amount: int) -> None:
    payer = await money.network(50)
    with pytest.raises(InvalidInput) as caught:
        await money.hold(payer.network_id, amount)
    assert caught.value.field == "amount_microcents"


async def test_hold_out_of_range_is_refused(money: Money) -> None:
    payer = await money.network(50)
    with pytest.raises(MoneyOverflow):
        await money.hold(payer.network_id, MICROCENTS_MAX + 1)
    with pytest.raises(PaymentRequired):
        await money.hold(payer.network_id, MICROCENTS_MAX)


async def test_a_hold_id_is_used_once(money: Money) -> None:
    payer = await money.network(50)
    hold_id = await money.hold(payer.network_id, CENT)
    with pytest.raises(Conflict):
        await money.hold(payer.network_id, CENT, hold_id=hold_id)
    assert await wallet(money, payer) == (50 * CENT, CENT, 0)


async def test_settlement_over_the_hold_is_our_bug(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    with pytest.raises(LedgerError, match="over the"):
        await money.settle(payer.network_id, hold_id, CENT + 1, seller.network_id)
    with pytest.raises(LedgerError, match="no such hold"):
        await money.settle(payer.network_id, money.ids.uuid(), CENT, seller.network_id)
    assert await wallet(money, payer) == (100 * CENT, CENT, 0)


async def test_nobody_pays_within_a_network(money: Money) -> None:
    payer = await money.network(100)
    hold_id = await money.hold(payer.network_id, CENT)
    with pytest.raises(LedgerError, match="must differ"):
        await money.settle(payer.network_id, hold_id, CENT, payer.network_id)
    assert await wallet(money, payer) == (100 * CENT, CENT, 0)


async def test_a_transfer_id_serves_one_hold(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    first, second = await money.hold(payer.network_id, CENT), await money.hold(payer.network_id, CENT)
    await money.settle(payer.network_id, first, CENT, seller.network_id, transfer_id=first)
    with pytest.raises(LedgerError, match="another settlement"):
        await money.settle(payer.network_id, second, CENT, seller.network_id, transfer_id=first)
    assert await wallet(money, payer) == (99 * CENT, CENT, 0)


async def test_the_platform_may_sell(money: Money) -> None:
    payer = await money.network(100)
    hold_id = await money.hold(payer.network_id, CENT)
    assert await money.settle(payer.network_id, hold_id, CENT, PLATFORM_NETWORK, fee=100_000) == "posted"
    books = await money.payments.trial_balance()
    assert books.sound
    assert (books.fee_microcents, books.earnings_microcents) == (100_000, 900_000)


async def test_scope_must_name_every_network(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)
    for networks in [
        (payer.network_id,),
        (payer.network_id, seller.network_id),
        (seller.network_id, PLATFORM_NETWORK),
    ]:
        async with money.database.transaction(Settle(networks)) as tx:
            with pytest.raises(ScopeError):
                await money.payments.settle(
                    tx,
                    transfer_id=hold_id,
                    requester_network=payer.network_id,
                    hold_id=hold_id,
                    total_microcents=1,
                    provider_network=seller.network_id,
                    fee_microcents=0,
                    earnings_microcents=1,
                    at=money.clock.now(),
                )
    async with money.database.transaction(payer) as tx:
        with pytest.raises(ScopeError):
            await money.payments.void(tx, network_id=payer.network_id, hold_id=hold_id, at=money.clock.now())
