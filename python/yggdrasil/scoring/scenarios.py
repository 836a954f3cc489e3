"""Five markets on which policies are compared. Each is a function of nothing: the seed is the run's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from yggdrasil.scoring.world import Scenario, SimulatedProvider, Span


def equals() -> Scenario:
    """Twenty equal providers of 1 to 8 slots: turns must be by capacity."""
    return Scenario(
        "equals",
        [
            SimulatedProvider(f"equal-{i:02}", "equal", 50_000_000, slots=1 + i % 8, spread=0.1)
            for i in range(20)
        ],
        seconds=1_800,
        rate=8.0,
    )


def spread() -> Scenario:
    """Thirty providers in three classes: cheap and slow, in the middle, dear and fast."""
    classes = [
        ("slow", 30_000_000, 25.0, 1_500.0, 0.95),
        ("middle", 60_000_000, 60.0, 500.0, 0.97),
        ("fast", 140_000_000, 120.0, 200.0, 0.99),
    ]
    return Scenario(
        "spread",
        [
            SimulatedProvider(
                f"{kind}-{i:02}",
                kind,
                price,
                slots=4,
                tokens_per_second=rate,
                first_ms=first,
                quality=quality,
            )
            for kind, price, rate, first, quality in classes
            for i in range(10)
        ],
        seconds=1_800,
        rate=10.0,
    )


def cheats() -> Scenario:
    """Twelve honest providers, four that claim three times their tokens, four that fail every second time;
    those are cheaper by a fifth, and nobody's equals."""
    honest = SimulatedProvider("honest", "honest", 50_000_000)
    return Scenario(
        "cheats",
        [
            *(replace(honest, name=f"honest-{i:02}") for i in range(12)),
            *(
                replace(honest, name=f"liar-{i}", kind="", price_microcents=40_000_000, claims=3.0)
                for i in range(4)
            ),
            *(
                replace(honest, name=f"flaky-{i}", kind="", price_microcents=40_000_000, failing=0.5)
                for i in range(4)
            ),
        ],
        seconds=1_800,
        rate=6.0,
    )


def outages() -> Scenario:
    """Sixteen equal providers; four are away for ten minutes, four answer nothing but errors for ten."""
    steady = SimulatedProvider("steady", "steady", 50_000_000)
    return Scenario(
        "outages",
        [
            *(replace(steady, name=f"steady-{i}") for i in range(8)),
            *(replace(steady, name=f"away-{i}", kind="away", outages=(Span(600, 1_200),)) for i in range(4)),
            *(
                replace(steady, name=f"faulty-{i}", kind="faulty", faults=(Span(900, 1_500),))
                for i in range(4)
            ),
        ],
        seconds=2_400,
        rate=7.0,
    )


def newcomer() -> Scenario:
    """A hundred equal providers, one more that joins, and two bursts that fill half the market."""
    known = SimulatedProvider("known", "known", 50_000_000, slots=2)
    return Scenario(
        "newcomer",
        [
            *(replace(known, name=f"known-{i:03}") for i in range(100)),
            replace(known, name="new", kind="new", joins=600.0),
        ],
        seconds=1_800,
        rate=12.0,
        bursts=((Span(300, 420), 2.0), (Span(1_200, 1_320), 2.0)),
    )


SCENARIOS: Final[tuple[Callable[[], Scenario], ...]] = (equals, spread, cheats, outages, newcomer)
"""The five of the comparison."""
