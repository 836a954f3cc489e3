"""Pure: how much to hold for a request, how much of it a completion may use, and what is paid in the end."""

from __future__ import annotations

from dataclasses import dataclass

from yggdrasil import heidrun
from yggdrasil.marketplace.requests import Offer

TOKENS_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Budget:
    """What is held for an attempt. `completion_tokens_max` is our own count at which the answer is cut;
    `output_tokens_max` is what the provider is asked for at most, for each choice."""

    hold_microcents: int
    tokens_max: int
    completion_tokens_max: int
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens of one attempt: what we saw, and what the provider says (None: it said nothing)."""

    prompt_observed: int
    completion_observed: int
    prompt_claimed: int | None
    completion_claimed: int | None

    @property
    def observed(self) -> int:
        return self.prompt_observed + self.completion_observed

    @property
    def claimed(self) -> int | None:
        if self.prompt_claimed is None or self.completion_claimed is None:
            return None
        return min(self.prompt_claimed + self.completion_claimed, TOKENS_MAX)


def with_tolerance(tokens: int, percent: int) -> int:
    return tokens + tokens * percent // 100


def believed(observed: int, claimed: int | None, percent: int) -> int:
    """min(claimed, observed + tolerance); what we saw, if nothing was claimed."""
    return observed if claimed is None else min(claimed, with_tolerance(observed, percent))


def exaggerates(count: Count, percent: int) -> bool:
    """Whether the provider claims more than the tolerance allows."""
    parts = (
        (count.prompt_observed, count.prompt_claimed),
        (count.completion_observed, count.completion_claimed),
    )
    return any(claimed is not None and claimed > with_tolerance(seen, percent) for seen, claimed in parts)


def free_budget(offer: Offer, *, prompt_tokens: int, output_tokens: int) -> Budget:
    """Inside one's own network nothing is held, and nothing cuts but the provider itself."""
    room = max(offer.context_tokens_max - prompt_tokens, 1)
    return Budget(0, TOKENS_MAX, TOKENS_MAX, min(output_tokens, room))


def paid_budget(
    offer: Offer,
    *,
    prompt_tokens: int,
    output_tokens: int,
    fee_basis_points: int,
    tolerance_percent: int,
    cost_microcents_max: int | None,
    choices: int = 1,
) -> Budget | None:
    """What to hold: the quote for prompt and longest output, bounded by the highest cost; None if that does
    not even pay for the prompt (and, where there is output, one token of each choice)."""
    room = offer.context_tokens_max - prompt_tokens
    output = min(output_tokens, room) if output_tokens else 0
    if room < 0 or (output_tokens and output < 1):
        return None
    most = with_tolerance(prompt_tokens + output * choices, tolerance_percent)
    amount = heidrun.quote(
        most, offer.price_cents, offer.price_unit_tokens, fee_basis_points, offer.rounding
    ).total_microcents
    if cost_microcents_max is not None:
        amount = min(amount, cost_microcents_max)
    affordable = heidrun.tokens_affordable(amount, offer.price_cents, offer.price_unit_tokens, offer.rounding)
    tokens = min(affordable, most) if offer.price_cents else most
    completion = tokens - prompt_tokens
    if completion < (choices if output_tokens else 0):
        return None
    return Budget(amount, tokens, completion, min(output, completion // choices))


def bill_tokens(count: Count, *, tokens_max: int, tolerance_percent: int, delivered: bool) -> tuple[int, int]:
    """(prompt, completion) tokens to pay: of each what is believed, together at most what was held. An
    answer with nothing in it costs nothing."""
    if not delivered:
        return 0, 0
    prompt = believed(count.prompt_observed, count.prompt_claimed, tolerance_percent)
    completion = believed(count.completion_observed, count.completion_claimed, tolerance_percent)
    prompt = min(prompt, tokens_max)
    return prompt, min(completion, tokens_max - prompt)
