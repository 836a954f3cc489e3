"""Buckets against their promise: at most burst + rate × time, never starved, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.quotas.bucket import Bucket, Buckets

STEPS = st.lists(st.tuples(st.floats(-5, 20, allow_nan=False), st.integers(1, 5)), min_size=1, max_size=200)


@given(STEPS, st.integers(5, 50), st.sampled_from([0.5, 1.0, 10.0]))
def test_never_more_than_the_burst_and_what_came_since(
    steps: list[tuple[float, int]], burst: int, rate: float
) -> None:
    bucket = Bucket(burst, rate, 0.0)
    now = latest = 0.0
    taken: list[tuple[float, int]] = []
    for after, amount in steps:
        now += after
        latest = max(latest, now)
        if bucket.take(amount, now) == 0:
            taken.append((latest, amount))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last][0] - taken[first][0]
            assert sum(amount for _, amount in taken[first : last + 1]) <= burst + rate * span + 1e-6


@given(STEPS)
def test_who_waits_as_long_as_he_is_told_is_served(steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(5, 1.0, 0.0)
    now = 0.0
    for after, amount in steps:
        now = max(now, now + after)
        wait = bucket.take(amount, now)
        if wait:
            assert bucket.take(amount, now + wait * 0.99 - 1e-6) > 0
            now += wait + 1e-6
            assert bucket.take(amount, now) == 0


def test_more_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    bucket = Bucket(10, 1.0, 0.0)
    assert bucket.take(25, 0.0) == 0
    assert bucket.take(1, 0.0) == 16
    assert bucket.take(1, 16.0) == 0


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 20))
def test_what_was_used_stays_used_when_the_limits_change(old: int, new: int, used: int) -> None:
    bucket = Bucket(old, 1.0, 0.0)
    for _ in range(min(used, old)):
        bucket.take(1, 0.0)
    bucket.change(new, 1.0, 0.0)
    assert bucket.burst - bucket.level == pytest.approx(max(min(used, old), 0))


def test_nobody_gets_a_fresh_bucket_by_sending_many_others() -> None:
    buckets: Buckets[int] = Buckets(2, 1.0, keys_max=3)
    assert [buckets.take(0, 0.0) == 0 for _ in range(3)] == [True, True, False]
    for other in range(1, 3):
        assert buckets.take(other, 0.0) == 0
    # No place is left, and none is idle: all that come now share one bucket.
    assert [buckets.take(other, 0.0) == 0 for other in range(10, 14)] == [True, True, False, False]
    assert buckets.take(0, 0.0) > 0
    assert len(buckets) == 3
    # Full again after two seconds, and so forgotten for whoever comes next.
    assert buckets.take(99, 2.0) == 0
    assert len(buckets) == 3
    assert buckets.take(0, 2.0) == 0
