"""What is wrong with one item is that item's error, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tests.batches.stand import Stand
from tests.payments.support import CENT
from yggdrasil.errors import InvalidInput, LedgerError, Unavailable
from yggdrasil.kernel import Settle
from yggdrasil.marketplace.batch_items import AttemptEnd
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import Bill, Ending, NewAttempt, NewTransaction

RATE = (10, 1000, "per_statement")
Asked = tuple[NewTransaction, NewAttempt]
BIG, HUGE = 2**31, 2**63
BAD_ADMISSIONS: dict[str, Callable[[NewTransaction, NewAttempt], Any]] = {
    "model": lambda new, attempt: (replace(new, model="a\0b"), attempt),
    "idempotency_key": lambda new, attempt: (replace(new, idempotency_key="\ud800"), attempt),
    "kind": lambda new, attempt: (replace(new, kind=7), attempt),
    "decision_card": lambda new, attempt: (new, replace(attempt, decision_card='{"a": "\udfff"}')),
    "price_cents": lambda new, attempt: (
        new,
        replace(attempt, offer=replace(attempt.offer, price_cents=HUGE)),
    ),
    "price_unit_tokens": lambda new, attempt: (
        new,
        replace(attempt, offer=replace(attempt.offer, price_unit_tokens=BIG)),
    ),
    "ordinal": lambda new, attempt: (new, replace(attempt, ordinal=BIG)),
    "fee_basis_points": lambda new, attempt: (new, replace(attempt, fee_basis_points=12.0)),
}
BAD_ENDS: dict[str, dict[str, Any]] = {
    "error_code": {"error_code": "\0"},
    "verdict": {"verdict": "\ud8ff"},
    "attempt_state": {"attempt_state": "\0"},
    "latency_ms": {"latency_ms": BIG},
    "tokens_per_second": {"tokens_per_second": -1},
    "observed_tokens": {"observed_tokens": HUGE},
    "claimed_tokens": {"claimed_tokens": True},
    "quality_ppm": {"quality_ppm": 1.5},
}


def amounts(total: int) -> Bill:
    fee = total * 12 // 100
    return Bill(State.COMPLETED, 1, 1, total, fee, total - fee)


async def funded(stand: Stand, count: int, cents: int = 1_000) -> list[Asked]:
    payer, seller = stand.scopes[1], stand.scopes[2]
    await stand.topup(payer, cents)
    return [stand.request(payer, seller, RATE) for _ in range(count)]


async def begun(stand: Stand, count: int) -> list[Asked]:
    asked = await funded(stand, count)
    await asyncio.gather(*(stand.records.admit(*one, CENT) for one in asked))
    return asked


def end(stand: Stand, asked: Asked, total: int, **more: Any) -> AttemptEnd:
    new, attempt = asked
    ending = Ending("completed", None, 1, 1, 1, 1, stand.clock.now())
    return AttemptEnd(
        attempt.attempt_id,
        new.network_id,
        attempt.offer.network_id,
        attempt.hold_id,
        "posted" if total else "voided",
        replace(ending, **more),
        amounts(total),
    )


@pytest.mark.parametrize("field", BAD_ADMISSIONS)
async def test_what_cannot_be_sent_fails_its_own_admission_alone(stand: Stand, field: str) -> None:
    good, bad = await funded(stand, 12), stand.request(stand.scopes[1], stand.scopes[2], RATE)
    asked = [*good[:6], BAD_ADMISSIONS[field](*bad), *good[6:]]
    outcomes = await asyncio.gather(
        *(stand.records.admit(*one, CENT) for one in asked), return_exceptions=True
    )
    refused = outcomes.pop(6)
    assert isinstance(refused, InvalidInput)
    assert (refused.field, field in refused.detail) == (field, True)
    assert outcomes == ["done"] * 12
    assert len((await stand.seen())["attempts"]) == 12


async def test_a_hold_out_of_range_names_its_field(stand: Stand) -> None:
    (asked,) = await funded(stand, 1)
    with pytest.raises(InvalidInput) as refused:
        await stand.records.admit(*asked, HUGE)
    assert refused.value.field == "hold_microcents"


@pytest.mark.parametrize("field", BAD_ENDS)
async def test_what_cannot_be_sent_fails_its_own_end_alone(stand: Stand, field: str) -> None:
    asked = await begun(stand, 12)

    async def finish(number: int) -> str:
        new, attempt = asked[number]
        ending = Ending("completed", None, 1, 1, 1, 1, stand.clock.now())
        if number == 5:
            ending = replace(ending, **BAD_ENDS[field])
        return await stand.records.finish(new, attempt, ending, amounts(CENT // 2), None)

    outcomes = await asyncio.gather(*(finish(number) for number in range(12)), return_exceptions=True)
    refused = outcomes.pop(5)
    assert isinstance(refused, InvalidInput)
    assert (refused.field, field in refused.detail) == (field, True)
    assert outcomes == ["done"] * 11
    # Its hold stands until somebody ends it.
    assert (await stand.money.payments.trial_balance()).open_holds == 1
    await stand.records.give_up(asked[5][0].network_id, asked[5][1])
    found = await stand.money.payments.trial_balance()
    assert found.sound
    assert (found.open_holds, found.cost_microcents) == (0, 11 * CENT // 2)


async def test_what_no_check_foresaw_fails_its_own_item_alone(stand: Stand) -> None:
    """A time that is none cannot be encoded: the whole message fails, and every item is asked by itself."""
    good, (new, attempt) = await funded(stand, 12), stand.request(stand.scopes[1], stand.scopes[2], RATE)
    asked = [*good[:6], (new, replace(attempt, deadline_at="soon")), *good[6:]]  # type: ignore[arg-type]
    outcomes = await asyncio.gather(
        *(stand.records.admit(*one, CENT) for one in asked), return_exceptions=True
    )
    assert isinstance(outcomes.pop(6), asyncpg.DataError)
    assert outcomes == ["done"] * 12
    assert max(stand.records._admissions.sizes) > 8


@pytest.mark.parametrize("beside", [0, 7])
@pytest.mark.parametrize("state", ["voided", "expired"])
@pytest.mark.parametrize("total", [CENT // 2, -CENT])
async def test_a_hold_that_is_given_back_pays_nothing(
    stand: Stand, beside: int, state: str, total: int
) -> None:
    """It would move the wallet and write no entry: money that is nowhere."""
    first, *others = await begun(stand, 1 + beside)
    bad = replace(end(stand, first, CENT // 2), hold_state=state)
    # What no item may say is said past its check.
    row = list(bad.row())
    row[13:16] = [total, 0, total]
    rows = [tuple(row), *(end(stand, one, CENT // 2).row() for one in others)]
    before = await stand.seen()
    if beside:
        assert await stand.money.database.call("finish_batch", rows) == ["alone"] * len(rows)
    else:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await stand.money.database.call("finish_batch", rows)
        assert refused.value.sqlstate == "YG002"
    assert await stand.seen() == before


async def test_an_attempt_is_paid_from_its_own_hold_and_from_no_other(stand: Stand) -> None:
    one, other = await begun(stand, 2)
    before = await stand.seen()
    for bad in (
        replace(end(stand, one, CENT // 2), hold_id=other[1].hold_id),
        replace(end(stand, one, CENT // 2), hold_id=None),
        replace(end(stand, one, 0), hold_id=other[1].hold_id),
        replace(end(stand, one, 0), hold_id=None),
    ):
        with pytest.raises(LedgerError):
            await stand.records._endings.submit(bad)
        assert await stand.seen() == before
    assert await stand.records._endings.submit(end(stand, one, CENT // 2)) == "done"
    assert await stand.records._endings.submit(end(stand, other, 0)) == "done"
    assert (await stand.money.payments.trial_balance()).sound


async def test_a_balance_that_would_overflow_is_told_to_its_item_alone(stand: Stand) -> None:
    asked = await begun(stand, 9)
    seller = stand.scopes[0]
    rich = stand.request(stand.scopes[1], seller, RATE)
    assert await stand.records.admit(*rich, CENT) == "done"
    # Earned elsewhere, and in its books: one micro-cent below the end of the numbers.
    earned = HUGE - 1
    await stand.execute(
        "INSERT INTO tenant.balances (network_id, account, posted_microcents, held_microcents, currency)"
        f" VALUES ('{seller.network_id}', 'earnings', {earned}, 0, 'EUR')"
    )

    async def finish(one: Asked) -> str:
        ending = Ending("completed", None, 1, 1, 1, 1, stand.clock.now())
        return await stand.records.finish(*one, ending, amounts(CENT // 2), None)

    everybody = [*asked[:4], rich, *asked[4:]]
    outcomes = await asyncio.gather(*(finish(one) for one in everybody), return_exceptions=True)
    overflow = outcomes.pop(4)
    assert (type(overflow).__name__, outcomes) == ("MoneyOverflow", ["done"] * 9)
    (row,) = await stand.look(
        "SELECT posted_microcents FROM tenant.balances WHERE network_id = $1 AND account = 'earnings'",
        seller.network_id,
    )
    assert row["posted_microcents"] == earned


async def test_a_locked_hold_makes_nobody_else_wait(stand: Stand) -> None:
    """Not its neighbours in the batch, nor those behind it; it gets its own answer when it is free."""
    mine = await begun(stand, 4)
    others = [stand.request(stand.scopes[0], stand.scopes[2], RATE) for _ in range(20)]
    await stand.topup(stand.scopes[0], 500)
    await asyncio.gather(*(stand.records.admit(*one, CENT) for one in others))
    ending = Ending("completed", None, 1, 1, 1, 1, stand.clock.now())

    async def finish(one: Asked) -> str:
        return await stand.records.finish(*one, ending, amounts(CENT // 2), None)

    loop = asyncio.get_running_loop()
    async with stand.money.database.transaction(Settle((mine[0][0].network_id,))) as tx:
        locked = await tx.fetch(
            "SELECT FROM tenant.holds WHERE network_id = $1 AND hold_id = $2 FOR UPDATE",
            mine[0][0].network_id,
            mine[0][1].hold_id,
        )
        assert locked
        stuck = [asyncio.create_task(finish(one)) for one in mine]
        free = [asyncio.create_task(finish(one)) for one in others]
        begun_at = loop.time()
        assert await asyncio.gather(*free) == ["done"] * len(free)
        assert loop.time() - begun_at < 5  # the lock's own limit is 10 s
        assert not stuck[0].done()
        assert max(stand.records._endings.sizes) > 8
    assert await asyncio.gather(*stuck) == ["done"] * len(stuck)
    assert (await stand.money.payments.trial_balance()).sound


async def test_the_error_of_an_item_set_aside_is_not_told_to_those_behind_it(stand: Stand) -> None:
    """The loop ends while a network's items go one by one: who was not asked gets Unavailable."""
    asked = await begun(stand, 3)
    batcher = stand.records._endings
    network = asked[0][0].network_id
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in asked]
    items = [end(stand, asked[0], 2 * CENT), *(end(stand, one, CENT // 2) for one in asked[1:])]
    for item, answer in zip(items, answers, strict=True):
        batcher._aside[network].append((item, answer))
    sending = asyncio.create_task(batcher._send_aside(network))
    while not answers[0].done():
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    told = [answer.exception() for answer in answers]
    assert isinstance(told[0], LedgerError)
    assert isinstance(told[-1], Unavailable)
