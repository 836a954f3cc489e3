"""The server's constants on the simulated markets: equals share by capacity, and who is new is tried soon."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from yggdrasil.scoring import Scenario, simulate
from yggdrasil.scoring.policies import Scored
from yggdrasil.scoring.scenarios import SCENARIOS


@pytest.mark.parametrize("make", SCENARIOS)
def test_equals_get_alike_and_nothing_is_lost(make: Callable[[], Scenario]) -> None:
    report = simulate(make(), Scored(seed=1), seed=1)
    assert report.jain >= 0.98
    assert report.lost <= report.requests // 1_000
    assert math.isnan(report.newcomer_picks) or report.newcomer_picks <= 50


@pytest.mark.parametrize("make", SCENARIOS)
@pytest.mark.parametrize("width", [0.06, 0.12, 0.16])
def test_equals_are_not_split_whatever_the_width(make: Callable[[], Scenario], width: float) -> None:
    """At 0.12 edges that stood still parted the equals of two of these markets."""
    report = simulate(make(), Scored(seed=1, router={"band_width": width}), seed=1)
    assert report.jain >= 0.98
    assert math.isnan(report.newcomer_picks) or report.newcomer_picks <= 50


def test_a_band_too_narrow_splits_equals() -> None:
    """The control: with bands of a thousandth, noise decides who gets work."""
    report = simulate(SCENARIOS[0](), Scored(seed=1, router={"band_width": 0.001}), seed=1)
    assert report.jain < 0.95
