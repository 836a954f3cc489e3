"""Pure: from the facts of a registration's tests to a verdict and its reasons. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from yggdrasil.marketplace.verdicts import Facts

LATENCY_MS_MAX: Final = 20_000
CLAIM_PERCENT_MAX: Final = 200
CLAIM_TOKENS_MIN: Final = 20

Verdict = Literal["accepted", "refused"]


class Reason(msgspec.Struct, frozen=True):
    """Why: a rule, the model it is about, and the sentence for its owner."""

    rule: str
    model: str
    text: str


def decide(facts: Sequence[Facts]) -> tuple[Verdict, list[Reason]]:
    """Every model must answer, begin within 20 seconds, and claim no more than twice the tokens that we
    count (a first answer is short, so the tolerance is wide)."""
    reasons = [reason for fact in facts for reason in _against(fact)]
    return ("refused" if reasons else "accepted"), reasons


def _against(fact: Facts) -> list[Reason]:
    if not fact.answered:
        return [
            Reason(
                "no_answer", fact.model, f"The test of model {fact.model} on the device failed: {fact.why}"
            )
        ]
    found = []
    if fact.latency_ms is not None and fact.latency_ms > LATENCY_MS_MAX:
        found.append(
            Reason(
                "too_slow",
                fact.model,
                f"Model {fact.model} began to answer after {fact.latency_ms} ms;"
                f" at most {LATENCY_MS_MAX} ms are allowed",
            )
        )
    most = max(fact.observed_tokens * CLAIM_PERCENT_MAX // 100, fact.observed_tokens + CLAIM_TOKENS_MIN)
    if fact.claimed_tokens is not None and fact.claimed_tokens > most:
        found.append(
            Reason(
                "claims_too_much",
                fact.model,
                f"For model {fact.model} the device claims {fact.claimed_tokens} tokens;"
                f" we count {fact.observed_tokens}, and at most {most} are believed",
            )
        )
    return found
