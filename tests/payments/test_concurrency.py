"""Many at once: admission never exceeds the balance, each hold ends once, and nothing waits in a ring."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import pytest

from tests.payments.support import CENT, Money
from yggdrasil.db import Database
from yggdrasil.errors import Conflict, LedgerError, PaymentRequired, Unavailable

AT_ONCE_MAX = 64  # more would wait for the pool's few connections, not for each other
T = TypeVar("T")


async def all_of(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    gate = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))


async def test_of_1000_holds_exactly_those_covered_are_admitted(money: Money) -> None:
    payer = await money.network(100)

    async def attempt() -> bool:
        try:
            await money.hold(payer.network_id, CENT)
        except PaymentRequired:
            return False
        return True

    assert sum(await all_of([attempt] * 1000)) == 100
    books = await money.payments.trial_balance()
    assert books.sound
    assert (books.open_holds, books.held_microcents) == (100, 100 * CENT)


async def test_racing_ends_of_one_hold_have_one_winner(money: Money, ids: object) -> None:
    payer, seller = await money.network(200), await money.network()
    order = random.Random(money.ids.seed)
    settled = 0
    for _ in range(30):
        hold_id = await money.hold(payer.network_id, CENT)

        async def settle(hold_id=hold_id) -> str:  # type: ignore[no-untyped-def]
            return await money.settle(payer.network_id, hold_id, CENT, seller.network_id, fee=1)

        async def void(hold_id=hold_id) -> str:  # type: ignore[no-untyped-def]
            return str(await money.void(payer.network_id, hold_id))

        async def expire(hold_id=hold_id) -> str:  # type: ignore[no-untyped-def]
            return str(await money.void(payer.network_id, hold_id, "expired"))

        calls = [settle, settle, settle, void, void, expire]
        order.shuffle(calls)
        seen = Counter(await all_of(calls))
        assert seen["posted"] + seen["True"] == 1, seen
        if seen["posted"]:
            assert seen["already"] == 2, seen
            settled += 1
        else:
            assert seen["ended"] == 3, seen
    books = await money.payments.trial_balance()
    assert books.sound
    assert books.open_holds == 0
    assert books.cost_microcents == settled * CENT


async def test_settlements_racing_under_two_transfers_post_once(money: Money) -> None:
    payer, seller = await money.network(100), await money.network()
    hold_id = await money.hold(payer.network_id, CENT)

    async def attempt() -> str:
        try:
            return await money.settle(
                payer.network_id, hold_id, CENT, seller.network_id, transfer_id=money.ids.uuid()
            )
        except LedgerError:
            return "refused"

    seen = Counter(await all_of([attempt] * 8))
    assert seen == {"posted": 1, "refused": 7}
    assert (await money.payments.trial_balance()).cost_microcents == CENT


async def test_a_used_hold_id_racing_the_end_of_its_hold_is_refused(money: Money) -> None:
    """They lock in opposite orders: PostgreSQL may refuse either of them, and nothing is held twice."""
    payer = await money.network(100)
    for _ in range(5):
        hold_id = await money.hold(payer.network_id, CENT)

        async def again(hold_id=hold_id) -> str:  # type: ignore[no-untyped-def]
            try:
                await money.hold(payer.network_id, CENT, hold_id=hold_id)
            except (Conflict, Unavailable) as refused:
                return refused.code
            return "held"

        async def void(hold_id=hold_id) -> str:  # type: ignore[no-untyped-def]
            try:
                return str(await money.void(payer.network_id, hold_id))
            except Unavailable:
                return str(await money.void(payer.network_id, hold_id))

        seen = await all_of([void, again])
        assert (seen[0], seen[1] in ("conflict", "unavailable")) == ("True", True), seen
    books = await money.payments.trial_balance()
    assert books.sound
    assert books.open_holds == 0


async def test_networks_paying_each_other_never_deadlock(money: Money) -> None:
    left, right = await money.network(10_000), await money.network(10_000)
    pairs = [(left, right) if number % 2 else (right, left) for number in range(200)]
    holds = [await money.hold(payer.network_id, CENT) for payer, _ in pairs]

    def job(number: int) -> Callable[[], Awaitable[str]]:
        payer, seller = pairs[number]
        return lambda: money.settle(payer.network_id, holds[number], CENT, seller.network_id, fee=100_000)

    # A deadlock would surface as Unavailable.
    assert await all_of([job(number) for number in range(200)]) == ["posted"] * 200
    books = await money.payments.trial_balance()
    assert books.sound
    assert books.cost_microcents == 200 * CENT
    for scope in (left, right):
        assert (await money.payments.balance(scope)).earnings_microcents == 90 * CENT


async def test_mixed_traffic_keeps_the_books(money: Money) -> None:
    networks = [await money.network(100) for _ in range(5)]
    order = random.Random(money.ids.seed)

    async def trade(payer: int, seller: int, amount: int, end: str) -> None:
        try:
            hold_id = await money.hold(networks[payer].network_id, amount)
        except PaymentRequired:
            return
        if end == "settle":
            total = 1 + amount // 2
            await money.settle(
                networks[payer].network_id, hold_id, total, networks[seller].network_id, fee=total // 10
            )
        elif end == "void":
            await money.void(networks[payer].network_id, hold_id)

    def job() -> Callable[[], Awaitable[None]]:
        payer, seller = order.sample(range(5), 2)
        amount, end = order.randrange(1, 30 * CENT), order.choice(["settle", "settle", "void", "leave"])
        return lambda: trade(payer, seller, amount, end)

    await all_of([job() for _ in range(150)])
    books = await money.payments.trial_balance()
    assert books.sound
    assert books.wallets_microcents == 500 * CENT - books.cost_microcents


@pytest.fixture
def check_then_spend() -> Callable[[Database], None]:
    """The control: admission that reads first and writes after, as a naive ledger would."""

    def spoil(database: Database) -> None:
        original = database.transaction

        class Naive:
            def __init__(self, scope: object) -> None:
                self.context = original(scope)  # type: ignore[arg-type]

            async def __aenter__(self) -> object:
                self.tx = await self.context.__aenter__()
                return self

            async def __aexit__(self, *error: object) -> None:
                await self.context.__aexit__(*error)  # type: ignore[arg-type]

            def __getattr__(self, name: str) -> object:
                return getattr(self.tx, name)

            async def fetchval(self, sql: str, *args: object) -> object:
                if "take_hold" in sql:
                    free = await self.tx.fetchval(
                        "SELECT posted_microcents - held_microcents FROM tenant.balances"
                        " WHERE network_id = $1 AND account = 'wallet'",
                        args[0],
                    )
                    return "held" if free >= args[3] else "cover"
                return await self.tx.fetchval(sql, *args)

        database.transaction = Naive  # type: ignore[method-assign,assignment]

    return spoil


async def test_the_admission_test_can_fail(
    money: Money, check_then_spend: Callable[[Database], None]
) -> None:
    payer = await money.network(50)
    check_then_spend(money.database)

    async def attempt() -> bool:
        try:
            await money.hold(payer.network_id, CENT)
        except PaymentRequired:
            return False
        return True

    assert sum(await all_of([attempt] * 60)) > 50
