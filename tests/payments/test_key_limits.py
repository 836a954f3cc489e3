"""What an API key may spend: exact under concurrency, given back with the hold, kept by the month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.payments.support import CENT, Money
from tests.payments.test_concurrency import all_of
from yggdrasil.errors import PaymentRequired, SpendLimitReached, Unauthenticated
from yggdrasil.kernel import Network, Settle, System
from yggdrasil.users import store_keys
from yggdrasil.users.store_keys import KeyTerms


async def key_of(money: Money, scope: Network, **terms: object) -> UUID:
    key_id = money.ids.uuid()
    async with money.database.transaction(scope) as tx:
        await store_keys.insert_key(
            tx,
            scope.network_id,
            key_id,
            scope.user_id,
            "test",
            bytes(32),
            money.clock.now(),
            KeyTerms(**terms),  # type: ignore[arg-type]
        )
    return key_id


async def hold(money: Money, scope: Network, key_id: UUID, amount: int) -> UUID:
    hold_id = money.ids.uuid()
    async with money.database.transaction(Settle((scope.network_id,))) as tx:
        await money.payments.hold(
            tx,
            network_id=scope.network_id,
            hold_id=hold_id,
            transaction_id=hold_id,
            amount_microcents=amount,
            deadline_at=money.clock.now() + timedelta(seconds=60),
            key_id=key_id,
        )
    return hold_id


async def spend(money: Money, scope: Network) -> dict[str, tuple[int, int]]:
    """Period -> (held, spent) of every key the user has."""
    async with money.database.transaction(scope) as tx:
        rows = await tx.fetch(
            "SELECT period, held_microcents, spent_microcents FROM tenant.key_spend ORDER BY period"
        )
    return {row["period"]: (row["held_microcents"], row["spent_microcents"]) for row in rows}


@pytest.mark.parametrize("term", ["spend_limit_microcents", "monthly_limit_microcents"])
async def test_of_200_at_once_exactly_the_10_that_the_limit_covers_are_admitted(
    money: Money, term: str
) -> None:
    payer = await money.network(1_000)
    key_id = await key_of(money, payer, **{term: 10 * CENT + CENT - 1})

    async def attempt() -> str:
        try:
            await hold(money, payer, key_id, CENT)
        except SpendLimitReached:
            return "refused"
        return "held"

    assert Counter(await all_of([attempt] * 200)) == {"held": 10, "refused": 190}
    books = await money.payments.trial_balance()
    assert books.sound
    assert (books.open_holds, books.held_microcents) == (10, 10 * CENT)
    assert await spend(money, payer) == {"2026-01": (10 * CENT, 0), "total": (10 * CENT, 0)}


async def test_holds_and_ends_racing_stay_within_the_limit_and_the_books_agree(money: Money) -> None:
    payer, seller = await money.network(1_000), await money.network()
    limit = 5 * CENT
    key_id = await key_of(money, payer, spend_limit_microcents=limit)

    def job(number: int) -> Callable[[], Awaitable[str]]:
        async def run() -> str:
            try:
                hold_id = await hold(money, payer, key_id, CENT)
            except SpendLimitReached:
                return "refused"
            if number % 3:
                await money.settle(payer.network_id, hold_id, CENT // 2, seller.network_id, fee=1)
                return "paid"
            await money.void(payer.network_id, hold_id)
            return "voided"

        return run

    seen = Counter(await all_of([job(number) for number in range(120)]))
    books = await money.payments.trial_balance()
    assert books.sound
    # Half a cent is spent at a time, and a whole one must be free for the next hold.
    assert seen["paid"] * CENT // 2 == books.cost_microcents <= limit
    assert (await spend(money, payer))["total"] == (0, books.cost_microcents)
    while (await spend(money, payer))["total"][1] <= limit - CENT:
        await money.settle(
            payer.network_id, await hold(money, payer, key_id, CENT), CENT // 2, seller.network_id
        )
    with pytest.raises(SpendLimitReached):
        await hold(money, payer, key_id, CENT)


async def test_one_limit_is_one_keys_and_the_wallet_still_counts(money: Money) -> None:
    payer = await money.network(50)
    small, free = await key_of(money, payer, spend_limit_microcents=CENT), await key_of(money, payer)
    await hold(money, payer, small, CENT)
    with pytest.raises(SpendLimitReached):
        await hold(money, payer, small, 1)
    await hold(money, payer, free, 49 * CENT)
    with pytest.raises(PaymentRequired) as refused:
        await hold(money, payer, free, 1)
    assert not isinstance(refused.value, SpendLimitReached)
    assert (await money.payments.trial_balance()).sound


async def test_a_month_starts_anew_and_a_hold_counts_to_its_own_month(money: Money) -> None:
    money.clock.set(datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    payer, seller = await money.network(100), await money.network()
    key_id = await key_of(money, payer, monthly_limit_microcents=CENT, spend_limit_microcents=2 * CENT)
    january = await hold(money, payer, key_id, CENT)
    with pytest.raises(SpendLimitReached):
        await hold(money, payer, key_id, 1)
    money.clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    await hold(money, payer, key_id, CENT)
    await money.settle(payer.network_id, january, CENT, seller.network_id)
    assert await spend(money, payer) == {
        "2026-01": (0, CENT),
        "2026-02": (CENT, 0),
        "total": (CENT, CENT),
    }
    money.clock.set(datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(SpendLimitReached):  # the month is new, the total is spent
        await hold(money, payer, key_id, 1)
    assert (await money.payments.trial_balance()).sound


async def test_a_key_that_ended_or_is_foreign_holds_nothing(money: Money) -> None:
    payer, other = await money.network(100), await money.network(100)
    foreign = await key_of(money, other)
    ended = await key_of(money, payer, expires_at=money.clock.now() + timedelta(seconds=5))
    revoked = await key_of(money, payer)
    async with money.database.transaction(payer) as tx:
        await store_keys.revoke_key(tx, payer.network_id, revoked, money.clock.now())
    await hold(money, payer, ended, CENT)
    money.clock.advance(5)
    for key_id in (foreign, ended, revoked, money.ids.uuid()):
        with pytest.raises(Unauthenticated):
            await hold(money, payer, key_id, CENT)
    assert (await money.payments.trial_balance()).held_microcents == CENT


async def test_the_law_is_in_the_database_too(money: Money) -> None:
    """The control: past the statement of admission, the table still refuses."""
    payer = await money.network(100)
    key_id = await key_of(money, payer, spend_limit_microcents=CENT)
    await hold(money, payer, key_id, CENT)
    with pytest.raises(asyncpg.CheckViolationError):
        async with money.database.transaction(Settle((payer.network_id,))) as tx:
            await tx.execute("UPDATE tenant.key_spend SET held_microcents = held_microcents + 1")


async def test_what_a_key_spent_is_its_users_alone(money: Money) -> None:
    payer, other = await money.network(100), await money.network(100)
    for scope in (payer, other):
        await hold(money, scope, await key_of(money, scope), CENT)
    mate = Network(payer.network_id, money.ids.uuid())
    assert len(await spend(money, payer)) == len(await spend(money, other)) == 2
    assert await spend(money, mate) == {}
    async with money.database.transaction(System("test")) as tx:
        assert await tx.fetchval("SELECT count(DISTINCT network_id) FROM tenant.key_spend") == 2


async def test_a_key_whose_sums_differ_from_its_holds_is_found_by_the_audit(money: Money) -> None:
    payer = await money.network(100)
    await hold(money, payer, await key_of(money, payer), CENT)
    assert (await money.payments.trial_balance()).mismatched_keys == 0
    async with money.database.transaction(Settle((payer.network_id,))) as tx:
        await tx.execute("UPDATE tenant.key_spend SET spent_microcents = 7 WHERE period = 'total'")
    books = await money.payments.trial_balance()
    assert (books.mismatched_keys, books.sound) == (1, False)
