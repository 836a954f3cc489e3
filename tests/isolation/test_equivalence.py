"""The judge of timing, on samples whose truth is known."""

from __future__ import annotations

import math
import random

import pytest

from tests.conftest import SEED
from tests.isolation.equivalence import T_SUSPICIOUS, judge, student, trimmed_mean, welch_t

MARGIN_US = 50.0


def times(draw: random.Random, pairs: int, more_us: float = 0.0) -> tuple[list[float], list[float]]:
    """As a busy machine shows them: a floor, a tail, phases that last, and stalls of many milliseconds."""
    one, other, slow = [], [], 0.0
    for _ in range(pairs):
        slow = 0.98 * slow + draw.expovariate(1 / 20)
        for sample, more in ((one, more_us), (other, 0.0)):
            stall = draw.uniform(5_000, 80_000) if draw.random() < 0.02 else 0.0
            sample.append(800 + slow + draw.gammavariate(2, 60) + stall + more)
    return one, other


@pytest.mark.parametrize("at", range(20))
def test_equal_times_are_equivalent(at: int) -> None:
    verdict = judge(*times(random.Random(at), 2_000), MARGIN_US)
    assert verdict.equivalent
    assert not verdict.differs
    assert abs(verdict.t) < T_SUSPICIOUS


@pytest.mark.parametrize("more_us", [100.0, -100.0, 300.0, 1_000.0])
def test_the_control_a_delay_is_found(more_us: float) -> None:
    for at in range(10):
        verdict = judge(*times(random.Random(SEED + at), 2_000, more_us), MARGIN_US)
        assert not verdict.equivalent
        assert verdict.differs
        assert abs(verdict.t) > T_SUSPICIOUS
        assert math.copysign(1, verdict.t) == math.copysign(1, more_us)
        assert abs(verdict.difference_us - more_us) < MARGIN_US


def test_at_the_margin_few_are_called_equivalent() -> None:
    """Of 500 runs with a difference of just the margin, alpha lets a half pass: 4 are far above."""
    wrong = sum(judge(*times(random.Random(at), 600, MARGIN_US), MARGIN_US).equivalent for at in range(500))
    assert wrong < 4


def test_little_shows_little() -> None:
    with pytest.raises(ValueError, match="300 pairs at least"):
        judge([1.0] * 299, [1.0] * 299, MARGIN_US)
    noisy = judge(*times(random.Random(SEED), 300), 0.5)
    assert not noisy.equivalent
    assert not noisy.differs


def test_a_slow_machine_is_no_difference() -> None:
    """It gets slower by the minute; both kinds of a block see the same of it."""
    one, other = times(random.Random(SEED), 2_000)
    verdict = judge(
        [took + 2 * at for at, took in enumerate(one)],
        [took + 2 * at for at, took in enumerate(other)],
        MARGIN_US,
    )
    assert verdict.equivalent


def test_student() -> None:
    """Tables: t(0.001; 8) = 4.501, t(0.001; 30) = 3.385, t(0.001; 120) = 3.160."""
    for freedom, table in ((8, 4.501), (30, 3.385), (120, 3.160)):
        assert student(freedom, 0.001) == pytest.approx(table, rel=0.01)


def test_the_trimmed_mean_of_a_known_sample() -> None:
    """Values 1 to 10 without 2 at either end; winsorized variance 3.833…, by hand."""
    mean, error = trimmed_mean([10, 1, 9, 2, 8, 3, 7, 4, 6, 5])
    assert mean == 5.5
    pulled = [3, 3, 3, 4, 5, 6, 7, 8, 8, 8]
    spread = sum((value - 5.5) ** 2 for value in pulled) / 9
    assert error == pytest.approx(math.sqrt(spread) / (0.6 * math.sqrt(10)))


def test_a_stall_does_not_move_it() -> None:
    calm = [float(value) for value in range(100)]
    assert trimmed_mean(calm)[0] == trimmed_mean([*calm[:-1], 1e9])[0]


def test_welch_of_known_samples() -> None:
    assert welch_t([1, 2, 3, 4], [1, 2, 3, 4], kept=1.0) == 0
    # Means 2.5 and 4.5, variances 5/3 each: -2 / sqrt(5/6).
    assert welch_t([1, 2, 3, 4], [3, 4, 5, 6], kept=1.0) == pytest.approx(-2 / math.sqrt(5 / 6))
    assert welch_t([1.0] * 9, [1.0] * 9) == 0
    assert welch_t([2.0] * 9, [1.0] * 9, kept=1.0) == math.inf


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="pairs"):
        judge([1.0, 2.0], [1.0], MARGIN_US)
