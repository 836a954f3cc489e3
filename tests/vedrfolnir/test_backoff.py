"""The wait before another dial."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.vedrfolnir.backoff import SECONDS_MAX, delay_seconds, drain_delay_seconds

chances = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10_000), chances, st.floats(0, 3600))
def test_the_wait_lies_in_its_window(attempt: int, chance: float, least: float) -> None:
    waited = delay_seconds(attempt, chance, least_seconds=least)
    assert least <= waited <= least + SECONDS_MAX


def test_the_window_doubles_to_its_cap() -> None:
    almost = 1 - 2**-53
    windows = [round(delay_seconds(attempt, almost), 6) for attempt in range(9)]
    assert windows == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_is_full() -> None:
    assert delay_seconds(5, 0.0) == 0.0
    assert delay_seconds(5, 0.25) == pytest.approx(4.0)


@given(st.integers(0, 600_000), chances)
def test_a_drain_spreads_over_the_time_given(reconnect_after_ms: int, chance: float) -> None:
    assert 0 <= drain_delay_seconds(reconnect_after_ms, chance) <= reconnect_after_ms / 1000


@pytest.mark.parametrize(
    ("attempt", "chance", "least", "rule"),
    [
        (-1, 0.5, 0.0, "attempt"),
        (0, 1.0, 0.0, "chance"),
        (0, -0.1, 0.0, "chance"),
        (0, 0.5, -1.0, "least_seconds"),
    ],
)
def test_wrong_arguments_are_refused(attempt: int, chance: float, least: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        delay_seconds(attempt, chance, least_seconds=least)
    with pytest.raises(ValueError, match="must be"):
        drain_delay_seconds(-1, 0.5)
