"""The controls: a money path with one mistake in it is caught by the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from tests.batches.lives import run_machine
from tests.batches.stand import Stand, without_check
from yggdrasil import heidrun
from yggdrasil.db import Database

EXAMPLES = 300
STEPS = 25


@dataclass(frozen=True)
class Mutant:
    """A text of a function's definition and what stands there instead; `more`: takes away what would catch
    it by itself."""

    name: str
    function: str
    right: str
    wrong: str
    more: tuple[str, ...] = ()


MUTANTS = (
    Mutant(
        "entries are looked for where the array of amounts ends",
        "end_holds",
        "1..coalesce(cardinality(ends), 0) LOOP\n        CONTINUE WHEN amounts[place] IS NULL;",
        "1..coalesce(cardinality(amounts), 0) LOOP\n        CONTINUE WHEN amounts[place] IS NULL;",
    ),
    Mutant(
        "a hold ends twice",
        "end_holds",
        "AND h.hold_id = one.hold_id AND h.state = 'pending'",
        "AND h.hold_id = one.hold_id",
        ("ALTER POLICY settle_update ON tenant.holds USING (true)",),
    ),
    Mutant("an attempt ends twice", "finish_batch", "AND a.state IN ('dispatched', 'accepted')", ""),
    Mutant(
        "an idempotency key is used twice",
        "admit",
        "IF item.idempotency_key IS NOT NULL AND NOT item.queued THEN",
        "IF false THEN",
        ("DROP INDEX tenant.transactions_idempotency",),
    ),
    Mutant(
        "the sum is not checked",
        "end_holds",
        "AND one.total_microcents - one.fee_microcents = one.earnings_microcents",
        "",
        (without_check("tenant.transactions", " + (earnings_microcents)"),),
    ),
    Mutant("a hold that is given back pays", "end_holds", "<> (0, 0, 0) THEN", "<> (0, 0, 0) AND false THEN"),
    Mutant(
        "a payment without a hold",
        "finish_batch",
        "IF item.hold_id IS DISTINCT FROM hold OR (hold IS NULL AND item.total_microcents <> 0) THEN",
        "IF false THEN",
    ),
    Mutant(
        "more is paid than was held",
        "end_holds",
        "AND h.amount_microcents >= coalesce(one.total_microcents, 0)",
        "",
    ),
    Mutant(
        "a refusal keeps what it took",
        "admit",
        "RAISE EXCEPTION USING ERRCODE = 'YG001', MESSAGE = held;",
        "RETURN held;",
    ),
    Mutant(
        "the wallet's cover is not looked at",
        "take_hold",
        "AND b.posted_microcents - b.held_microcents >= take_hold.amount_microcents",
        "",
        (without_check("tenant.balances", " - (held_microcents)"),),
    ),
    Mutant(
        "of several movements of an account the last one stands",
        "end_holds",
        "sum(m.posted_microcents)::bigint",
        "max(m.posted_microcents)::bigint",
    ),
    Mutant(
        "all items are in the scope of the first",
        "admit_batch",
        "platform.enter_scope(item.networks)",
        "platform.enter_scope((items[1]).networks)",
    ),
    Mutant("the hold of an end that pays nothing stays", "finish_batch", "IF item.hold_id IS NOT NULL THEN",
           "IF item.hold_id IS NOT NULL AND item.total_microcents > 0 THEN"),
    Mutant("an item again is done again", "finish_batch", "THEN 'before' ELSE", "THEN 'done' ELSE"),
)  # fmt: skip


async def caught(stand: Stand) -> None:
    """The machine finds something wrong: with the books, with an answer, or an error that no item may get."""
    with pytest.raises((AssertionError, asyncpg.PostgresError)) as found:
        await run_machine(stand, examples=EXAMPLES, steps=STEPS, control=True)
    print(str(found.value)[:200])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_the_machine_catches(stand: Stand, mutant: Mutant) -> None:
    await stand.plant(mutant.function, mutant.right, mutant.wrong)
    for statement in mutant.more:
        await stand.execute(statement)
    await caught(stand)


async def test_the_machine_catches_a_fee_that_is_rounded_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = heidrun.settle

    @dataclass
    class Bill:
        total_microcents: int
        fee_microcents: int
        earnings_microcents: int

    def greedy(tokens: int, cents: int, unit: int, basis_points: int, rounding: str) -> Any:
        total = original(tokens, cents, unit, basis_points, rounding).total_microcents
        fee = -(-total * basis_points // 10_000)
        return Bill(total, fee, total - fee)

    monkeypatch.setattr(heidrun, "settle", greedy)
    await caught(stand)


async def test_the_machine_catches_answers_given_to_the_wrong_items(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., Any] = Database.call

    async def turned(self: Database, function: str, items: Any) -> list[str]:
        outcomes: list[str] = await original(self, function, items)
        return [*outcomes[1:], *outcomes[:1]]

    monkeypatch.setattr(Database, "call", turned)
    await caught(stand)


async def test_the_machine_catches_a_batch_that_is_sent_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., Any] = Database.call

    async def again(self: Database, function: str, items: Any) -> list[str]:
        await original(self, function, items)
        return await original(self, function, items)  # type: ignore[no-any-return]

    monkeypatch.setattr(Database, "call", again)
    await caught(stand)
