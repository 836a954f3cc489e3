"""How long and how often: what all measures of a run have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benches.report import Measure


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` that count, after one that does not; each side is measured for `seconds` in every round."""

    rounds: int
    seconds: float

    def rounds_with_warm_up(self) -> Iterator[int]:
        """0 is the warm-up: nothing of it is kept."""
        return iter(range(self.rounds + 1))

    def add(self, measure: Measure, side: str, value: float) -> None:
        """One round's value of `ours` or of a peer."""
        (measure.ours if side == "ours" else measure.peers.setdefault(side, [])).append(value)
