"""How much more than our own count a provider may claim, learnt for each model. No I/O, no clock.

Our count of a model's tokens may be off, for we may not know its vocabulary. Then the honest claims of all
its providers are off by the same factor: the middle of them tells it. One owner is one voice, so that one who
lies with a hundred devices is not heard more than once; and whatever is learnt stays within bounds.
"""

from __future__ import annotations

from collections import OrderedDict
from statistics import median
from typing import Final
from uuid import UUID

PERCENT_MIN: Final = 15
PERCENT_MAX: Final = 50
MARGIN_PERCENT: Final = 15
OWNERS_MIN: Final = 3
OWNERS_MAX: Final = 256
MODELS_MAX: Final = 10_000
TOKENS_MIN: Final = 20
_LATEST: Final = 0.1
_RATIO_MAX: Final = 10.0


class Tolerance:
    """`percent_start` holds for a model until three owners have answered with it."""

    def __init__(self, percent_start: int) -> None:
        self._start = percent_start
        self._ratios: OrderedDict[str, OrderedDict[UUID, float]] = OrderedDict()

    def learn(self, model: str, owner: UUID, observed: int, claimed: int | None) -> None:
        """One answer. Short ones tell little."""
        if claimed is None or observed < TOKENS_MIN:
            return
        owners = self._ratios.setdefault(model, OrderedDict())
        ratio = min(claimed / observed, _RATIO_MAX)
        known = owners.get(owner)
        owners[owner] = ratio if known is None else known + _LATEST * (ratio - known)
        owners.move_to_end(owner)
        self._ratios.move_to_end(model)
        if len(owners) > OWNERS_MAX:
            owners.popitem(last=False)
        if len(self._ratios) > MODELS_MAX:
            self._ratios.popitem(last=False)

    def percent(self, model: str) -> int:
        """By how much a claim for this model may exceed our count: what its owners claim in the middle, and a
        margin."""
        owners = self._ratios.get(model)
        if owners is None or len(owners) < OWNERS_MIN:
            return self._start
        over = round((median(owners.values()) - 1) * 100) + MARGIN_PERCENT
        return min(max(over, PERCENT_MIN), PERCENT_MAX)
