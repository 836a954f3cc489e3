"""Which offers meet the wishes that the router's own gates do not ask for, and in which order they are asked.
No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from yggdrasil.errors import NoProvider
from yggdrasil.marketplace import parameters
from yggdrasil.marketplace.requests import ComputeRequest, Offer
from yggdrasil.marketplace.wishes import (
    Sort,
    Wishes,
    latency_step,
    quality_step,
    quality_step_of,
    throughput_step,
)

NEW_WEIGHT: Final = 3.0
"""With fewer observations than that an offer's quality is not known yet."""
GROUPS_MAX: Final = 64


class Seen(Protocol):
    """How an offer stands."""

    @property
    def quality(self) -> float: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def tokens_per_second(self) -> float: ...
    @property
    def weight(self) -> float: ...


def unmet(seen: Seen, wishes: Wishes) -> str | None:
    """The first wish about what was seen of the offer that it does not meet."""
    if wishes.min_quality is not None:
        known = seen.weight >= NEW_WEIGHT
        if not known or quality_step(seen.quality) < quality_step_of(wishes.min_quality):
            return "min_quality"
    if wishes.throughput_min is not None and throughput_step(seen.tokens_per_second) < wishes.throughput_min:
        return "preferred_min_throughput"
    return None


def fit(offers: Iterable[Offer], seen: Callable[[Offer], Seen], request: ComputeRequest) -> list[Offer]:
    """The offers that meet the wishes; NoProvider names the one that leaves none of them."""
    found = list(offers)
    wishes = request.wishes
    if found and wishes.require_parameters:
        needed = parameters.used(request.kind, request.body)
        taking = [offer for offer in found if parameters.supported(offer).issuperset(needed)]
        if not taking:
            raise parameters.refusal(found, needed)
        found = taking
    failed: set[str] = set()
    fitting = []
    for offer in found:
        name = unmet(seen(offer), wishes)
        if name is None:
            fitting.append(offer)
        else:
            failed.add(name)
    if found and not fitting:
        name = "preferred_min_throughput" if "preferred_min_throughput" in failed else "min_quality"
        raise NoProvider(_TEXTS[name], field=name)
    return fitting


_TEXTS: Final = {
    "min_quality": "min_quality: no fitting offer is known to be that good",
    "preferred_min_throughput": "preferred_min_throughput: no fitting offer is that fast",
}


def groups(offers: Sequence[Offer], seen: Callable[[Offer], Seen], sort: Sort | None) -> list[list[Offer]]:
    """The offers in the order in which they are asked; those of one group are equal by the wish, and the
    score decides among them. Latency and throughput are compared by step."""
    if sort is None:
        return [list(offers)]
    by_value: dict[int, list[Offer]] = {}
    for offer in offers:
        if sort == "price":
            value = offer.price_microcents
        elif sort == "latency":
            value = latency_step(seen(offer).latency_ms)
        else:
            value = -throughput_step(seen(offer).tokens_per_second)
        by_value.setdefault(value, []).append(offer)
    ordered = [by_value[value] for value in sorted(by_value)]
    rest = [offer for group in ordered[GROUPS_MAX - 1 :] for offer in group]
    return ordered if len(ordered) <= GROUPS_MAX else [*ordered[: GROUPS_MAX - 1], rest]
