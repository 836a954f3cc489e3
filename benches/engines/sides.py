"""One measure of an engine: our side and the peers', run by pytest-benchmark in one group, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pytest

OURS: Final = "ours"
TURNS: Final = 5
"""How often each side comes. A machine changes its speed from minute to minute: timed once, one after the
other, two sides may see two machines."""
Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Side:
    """One turn of a side: `run` is what is timed; `work` is what one call of it does, in the measure's own
    terms."""

    measure: EngineMeasure
    name: str
    run: Run
    work: float

    def __call__(self, benchmark: Any, *, rounds: int = 4, before: Callable[[], None] | None = None) -> None:
        """Time it: a warm-up, then `rounds` calls. `before`: done before each, and not timed."""
        measure = self.measure
        benchmark.group = measure.name
        benchmark.extra_info.update(
            side=self.name,
            unit=measure.unit,
            better=measure.better,
            work=self.work,
            target=measure.target,
            least_ratio=measure.least_ratio,
            bound=measure.bound,
            notes=dict(measure.notes),
        )
        benchmark.pedantic(self.run, setup=before, rounds=rounds, warmup_rounds=1)


@dataclass(frozen=True, slots=True)
class EngineMeasure:
    """`higher`: the value is `work` per second (MB/s: `work` in MB). `lower`: seconds per `work` as µs or ms
    by the unit (`work` calls in one run: divide by them). The target is checked as `benches.report` says."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    work: float = 1.0
    target: str = ""
    least_ratio: float | None = None
    bound: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def sides(
        self, ours: Run, peers: Mapping[str, Run], *, peer_work: float | None = None, turns: int = TURNS
    ) -> pytest.MarkDecorator:
        """`@measure.sides(ours, {"tiktoken 0.14.0": …})` over a test of `(side, benchmark)`; the first peer
        is the one that the target counts against. `peer_work`: what one call of a peer does, if it is not
        what one of ours does."""
        theirs = self.work if peer_work is None else peer_work
        once = [Side(self, OURS, ours, self.work)]
        once += [Side(self, name, run, theirs) for name, run in peers.items()]
        # The order of the parameters is the order of the tests.
        ids = [f"{side.name}, turn {turn}" for turn in range(1, turns + 1) for side in once]
        return pytest.mark.parametrize("side", once * turns, ids=ids)


_SECONDS: Final = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9}


def value(seconds: float, unit: str, better: str, work: float) -> float:
    """What one round of `seconds` means in the measure's unit."""
    if better == "higher":
        return work / seconds
    return seconds / work * _SECONDS[unit]
