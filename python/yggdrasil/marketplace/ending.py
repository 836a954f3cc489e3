"""Pure: what an attempt's outcome means for the books. No I/O."""

from __future__ import annotations

from datetime import datetime

from yggdrasil import heidrun
from yggdrasil.marketplace.attempt import Outcome
from yggdrasil.marketplace.billing import Budget, bill_tokens
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.store_run import Bill, Ending, NewAttempt


def ending_for(outcome: Outcome, at: datetime) -> Ending:
    """What the attempt's row says in the end."""
    quality_ppm, verdict = None, "broke_off" if outcome.broke else None
    if outcome.end == "completed" and outcome.judgement is not None:
        quality_ppm = round(outcome.judgement.quality * 1_000_000)
        verdict = ",".join(outcome.judgement.marks) or None
    elif outcome.error_code == "bad_answer":
        quality_ppm = 0
    return Ending(
        attempt_state=outcome.end,
        error_code=outcome.error_code,
        observed_tokens=outcome.count.observed,
        claimed_tokens=outcome.count.claimed,
        latency_ms=outcome.first_chunk_ms,
        tokens_per_second=outcome.tokens_per_second,
        at=at,
        quality_ppm=quality_ppm,
        verdict=verdict,
    )


def bill_for(outcome: Outcome, attempt: NewAttempt, budget: Budget, *, tolerance_percent: int) -> Bill:
    """What is paid: for a completed answer what is believed of it, for a cancelled one what was
    delivered, for a failed one nothing. Without a hold nothing is paid at all."""
    if outcome.end not in ("completed", "cancelled"):
        return Bill(State.FAILED)
    state = State.COMPLETED if outcome.end == "completed" else State.CANCELLED
    prompt, completion = bill_tokens(
        outcome.count,
        tokens_max=budget.tokens_max,
        tolerance_percent=tolerance_percent,
        delivered=outcome.delivered,
    )
    if attempt.hold_id is None or prompt + completion == 0:
        return Bill(state, prompt, completion)
    offer = attempt.offer
    settlement = heidrun.settle(
        prompt + completion,
        offer.price_cents,
        offer.price_unit_tokens,
        attempt.fee_basis_points,
        offer.rounding,
    )
    return Bill(
        state,
        prompt,
        completion,
        settlement.total_microcents,
        settlement.fee_microcents,
        settlement.earnings_microcents,
    )
