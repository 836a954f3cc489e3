"""`model: "auto"`: which model answers a request, and why. No I/O.

Every model that the requester can reach is looked at. Its offers go through the requester's wishes; the best
score among those that are left is the model's, by the score of all offers, with the median price of what is
left as the reference. The highest score wins; of equals the longer context, then the name. There is no chance
in it: the same state of the market gives the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, Final, Protocol

from yggdrasil import scoring
from yggdrasil.errors import NoProvider
from yggdrasil.marketplace import parameters
from yggdrasil.marketplace.fitting import Seen, unmet
from yggdrasil.marketplace.requests import ComputeRequest, Offer


class Standing(Seen, Protocol):
    """How an offer stands."""

    @property
    def availability(self) -> float: ...


AUTO: Final = "auto"
MODELS_TRIED_MAX: Final = 8
SHOWN_MAX: Final = 16
LATENCY_REFERENCE_MS: Final = 1_000.0

_GATES: Final = (
    "require_parameters",
    "only",
    "ignore",
    "context",
    "max_price",
    "min_quality",
    "preferred_min_throughput",
)


@dataclass(slots=True)
class Candidate:
    """One model. `score` is None if none of its offers fits; then `reason` is the wish that left none."""

    model: str
    offers: int
    price_cents: int
    price_unit_tokens: int
    context_tokens_max: int
    score: float | None
    reason: str

    def shown(self, chosen: bool) -> dict[str, Any]:
        return {
            "model": self.model,
            "offers": self.offers,
            "price_cents": self.price_cents,
            "price_unit_tokens": self.price_unit_tokens,
            "context_tokens_max": self.context_tokens_max,
            "score": None if self.score is None else round(self.score, 2),
            "chosen": chosen,
            "reason": "highest score" if chosen else self.reason,
        }


@dataclass(slots=True)
class ModelChoice:
    """The models in the order in which they are asked, best first."""

    ranked: list[Candidate]
    unfit: list[Candidate] = field(default_factory=list)

    def refused(self, candidate: Candidate, error: NoProvider) -> None:
        """Nobody could take it for that model after all."""
        candidate.reason = error.detail

    def shown(self, chosen: Candidate) -> dict[str, Any]:
        """What the requester is told."""
        return {
            "chosen": chosen.model,
            "candidates": [one.shown(one is chosen) for one in [*self.ranked, *self.unfit][:SHOWN_MAX]],
        }


def choose(
    offers: Iterable[Offer],
    request: ComputeRequest,
    *,
    standing: Callable[[Offer], Standing],
    tokens_needed: Callable[[str], int],
    listed: Callable[[Offer], bool],
    ignored: Callable[[Offer], bool],
) -> ModelChoice:
    """Rank the models of `offers`, which are of the request's kind and within its reach. Raises NoProvider
    naming the wish that leaves no model."""
    of_model: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        of_model[offer.model].append(offer)
    if not of_model:
        raise NoProvider("model: no offer you can reach now is of this kind", field="model")
    needed_parameters: list[str] = []
    if request.wishes.require_parameters:
        needed_parameters = parameters.used(request.kind, request.body)
    fitting: dict[str, list[Offer]] = {}
    failed: dict[str, str] = {}
    for model, known in of_model.items():
        needed = tokens_needed(model)
        gates = {
            offer.id: _gate(offer, request, standing(offer), needed, listed(offer), ignored(offer))
            if parameters.supported(offer).issuperset(needed_parameters)
            else "require_parameters"
            for offer in known
        }
        fitting[model] = [offer for offer in known if gates[offer.id] is None]
        if not fitting[model]:
            failed[model] = max((gate for gate in gates.values() if gate), key=_GATES.index)
    prices = [_price(offer, request) for left in fitting.values() for offer in left]
    if not prices:
        name = max(failed.values(), key=_GATES.index)
        if name == "require_parameters":
            raise parameters.refusal(
                (offer for known in of_model.values() for offer in known), needed_parameters
            )
        where = {"context": "max_tokens", "max_price": request.wishes.max_price_field}.get(name, name)
        raise NoProvider(f"{name}: it leaves no model to choose from", field=where)
    reference = float(max(median_low(prices), 1))
    candidates = [
        _candidate(model, known, fitting[model], failed.get(model), request, standing, reference)
        for model, known in of_model.items()
    ]
    ranked = [one for one in candidates if one.score is not None]
    ranked.sort(key=lambda one: (-round(one.score or 0.0, 6), -one.context_tokens_max, one.model))
    unfit = sorted((one for one in candidates if one.score is None), key=lambda one: one.model)
    return ModelChoice(ranked, unfit)


def _gate(
    offer: Offer, request: ComputeRequest, seen: Standing, needed: int, listed: bool, ignored: bool
) -> str | None:
    """The first wish that the offer does not meet."""
    wishes = request.wishes
    if not listed:
        return "only"
    if ignored:
        return "ignore"
    if offer.context_tokens_max < needed:
        return "context"
    limit = wishes.max_price_microcents if wishes.scope == "market" else None
    if limit is not None and offer.price_microcents > limit:
        return "max_price"
    return unmet(seen, wishes)


def _price(offer: Offer, request: ComputeRequest) -> int:
    """What it costs this requester: at home, nothing."""
    return offer.price_microcents if request.wishes.scope == "market" else 0


def _candidate(
    model: str,
    known: list[Offer],
    fitting: list[Offer],
    failed: str | None,
    request: ComputeRequest,
    standing: Callable[[Offer], Standing],
    price_reference: float,
) -> Candidate:
    shown = fitting or known
    cheapest = min(shown, key=lambda offer: (offer.price_microcents, offer.id))
    score = max((_score(offer, request, standing(offer), price_reference) for offer in fitting), default=None)
    return Candidate(
        model=model,
        offers=len(shown),
        price_cents=cheapest.price_cents,
        price_unit_tokens=cheapest.price_unit_tokens,
        context_tokens_max=max(offer.context_tokens_max for offer in shown),
        score=score,
        reason=f"{failed}: none of its offers fits" if failed else "lower score",
    )


def _score(offer: Offer, request: ComputeRequest, seen: Standing, price_reference: float) -> float:
    return scoring.score(
        float(_price(offer, request)),
        seen.quality,
        seen.latency_ms,
        seen.availability,
        0.0,
        price_reference=price_reference,
        latency_reference_ms=LATENCY_REFERENCE_MS,
        work_reference=1.0,
    )
