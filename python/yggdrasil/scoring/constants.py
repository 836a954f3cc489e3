"""The constants with which the server chooses. `docs/engines/choosing.md` shows what others would bring."""

from __future__ import annotations

from typing import Final, TypedDict


class RouterSettings(TypedDict):
    """Of `Router`; what is not named here is the router's own default."""

    band_width: float
    explore_ppm: int
    breaker_window: int
    breaker_successes: int


class QualitySettings(TypedDict):
    """Of `Quality`: the mean and the weight of what is believed of a provider nobody has seen."""

    z: float
    success_prior: tuple[float, float]
    quality_prior: tuple[float, float]


WEIGHTS: Final = (0.30, 0.25, 0.20, 0.15, 0.10)
"""Of price, quality, latency, availability and fairness, where nothing else is said."""
ROUTER: Final[RouterSettings] = {
    "band_width": 0.06,
    "explore_ppm": 15_000,
    "breaker_window": 16,
    "breaker_successes": 3,
}
NEWCOMER_PPM: Final = 50_000
"""Picks in a million that go to an offer hardly ever picked, if there is one; an operator may set another."""
QUALITY: Final[QualitySettings] = {"z": 1.0, "success_prior": (0.95, 4.0), "quality_prior": (0.9, 2.0)}
