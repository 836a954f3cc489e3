"""Buckets against their promise: at most burst + rate × time, never starved, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.quotas.bucket import MEMBER_SECONDS, Bucket, Buckets, FairBucket

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


MEMBERS = st.lists(st.tuples(st.integers(0, 5), st.floats(-50, 20, allow_nan=False)), max_size=150)


@given(MEMBERS, st.integers(1, 300), st.sampled_from([0.5, 1.0, 10.0]))
def test_members_together_get_no_more_than_one_alone(
    asked: list[tuple[int, float]], burst: int, rate: float
) -> None:
    bucket = FairBucket(burst, rate, 0.0)
    now = latest = 0.0
    taken = 0
    for member, after in asked:
        now += after
        latest = max(latest, now)
        taken += bucket.take_for(member, now) == 0
        assert taken <= burst + rate * latest + 1e-6


@given(
    rate=st.floats(5, 200), burst=st.integers(10, 400), greedy=st.integers(1, 8), patience=st.integers(1, 4)
)
def test_nobody_is_starved_by_those_who_ask_all_the_time(
    rate: float, burst: int, greedy: int, patience: int
) -> None:
    """Some ask twenty times as often as there is something, one only as often as a share allows: that one is
    never refused for longer than a few shares take."""
    bucket = FairBucket(burst, rate, 0.0)
    share_seconds = (greedy + 1) / rate
    now, next_ask = 0.0, burst / rate
    refused_since: float | None = None
    longest, served = 0.0, 0
    end = next_ask + 40 * share_seconds * patience
    while now < end:
        for member in range(greedy):
            bucket.take_for(member, now)
        if now >= next_ask:
            if bucket.take_for("modest", now):
                refused_since = now if refused_since is None else refused_since
                longest = max(longest, now - refused_since)
            else:
                served, refused_since = served + 1, None
                next_ask = now + share_seconds * patience
        now += 1 / (20 * rate)
    assert served >= 15
    assert longest <= 3 * share_seconds + 1 / (10 * rate)


def test_those_who_ask_without_end_get_the_same_and_one_alone_gets_all() -> None:
    bucket = FairBucket(200, 100, 0.0)
    got = dict.fromkeys("abc", 0)
    for step in range(60_000):
        for name in "abcccccccccc":
            got[name] += bucket.take_for(name, step / 1_000) == 0
    assert sum(got.values()) == pytest.approx(100 * 60 + 200, rel=0.02)
    assert got["a"] == pytest.approx(got["b"], rel=0.05)
    assert got["c"] < 1.15 * got["a"]
    alone = sum(bucket.take_for("a", step / 1_000) == 0 for step in range(60_000, 120_000))
    assert alone >= 100 * (60 - MEMBER_SECONDS)
    assert bucket.members == 1


def test_many_who_come_once_do_not_shut_out_one_who_works() -> None:
    bucket = FairBucket(1_000, 50, 0.0)
    while bucket.take_for("busy", 0.0) == 0:
        pass
    for other in range(62):
        bucket.take_for(other, 0.0)
    now = 0.0
    while wait := bucket.take_for("busy", now):
        now += wait
    # A share of what comes in, 50 a second among 63, and not a debt for each who came.
    assert now <= 2 * 63 / 50


def test_a_newcomer_at_an_empty_bucket_is_the_next() -> None:
    bucket = FairBucket(20, 10, 0.0)
    while bucket.take_for("old", 0.0) == 0:
        pass
    wait = bucket.take_for("new", 0.0)
    assert 0 < wait <= 0.2
    assert bucket.take_for("new", wait + 1e-9) == 0


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 8))
def test_a_key_in_use_is_never_forgotten_whoever_else_comes(names: list[int], most: int) -> None:
    buckets: Buckets[object] = Buckets(3, 1.0, keys_max=most + 1)
    alone = Bucket(3, 1.0, 0.0)
    now = 0.0
    for name in names:
        buckets.take(name, now)
        assert buckets.take("mine", now) == pytest.approx(alone.take(1, now))
        assert len(buckets) <= most + 1
        now += 0.05


def test_whoever_has_a_key_for_every_place_keeps_nobody_else_out() -> None:
    buckets: Buckets[int] = Buckets(2, 1.0, keys_max=3)
    for _ in range(2):
        for mine in range(3):
            buckets.take(mine, 0.0)
    assert [buckets.take(stranger, 0.0) for stranger in range(100, 120)] == [0.0] * 20
    assert len(buckets) == 3
