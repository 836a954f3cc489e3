"""Decayed aggregates against decimals of fifty digits."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.eikthyrnir import Estimate, Quality
from yggdrasil.errors import InvalidInput

PROVIDER = b"provider"
HALF_LIFE_MS = 3_600_000
NOW_MS = 1_767_225_600_000
EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 1.0),
        st.floats(0.001, 1.0),
        st.integers(NOW_MS - 30 * HALF_LIFE_MS, NOW_MS),
    ),
    min_size=1,
    max_size=40,
)
Event = tuple[float, float, int]


def exact(events: list[Event], at_ms: int) -> tuple[Decimal, Decimal, Decimal]:
    """Weight, mean and variance by their definition: every observation weighed by its own age."""
    with localcontext() as context:
        context.prec = 50
        weights = [
            Decimal(weight) * Decimal(2) ** (Decimal(when - at_ms) / HALF_LIFE_MS)
            for _, weight, when in events
        ]
        total = sum(weights, Decimal(0))
        values = [Decimal(value) for value, _, _ in events]
        mean = sum((w * x for w, x in zip(weights, values, strict=True)), Decimal(0)) / total
        variance = (
            sum((w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True)), Decimal(0)) / total
        )
        return total, mean, variance


def observed(events: list[Event], metric: str = "success") -> Quality:
    quality = Quality(half_life_ms=HALF_LIFE_MS)
    for value, weight, when in events:
        quality.observe(PROVIDER, metric, value, at_ms=when, weight=weight)
    return quality


def parts(estimate: Estimate) -> tuple[float, ...]:
    return (estimate.mean, estimate.weight, estimate.variance, estimate.lower_bound, estimate.upper_bound)


@given(events=EVENTS, later_ms=st.integers(0, 20 * HALF_LIFE_MS))
def test_share_is_the_beta_bound_of_the_exact_moments(events: list[Event], later_ms: int) -> None:
    at_ms = NOW_MS + later_ms
    weight, mean, variance = exact(events, at_ms)
    estimate = observed(events).estimate(PROVIDER, "success", at_ms=at_ms)
    assert estimate.weight == pytest.approx(float(weight), rel=1e-9)
    assert estimate.variance == pytest.approx(float(variance), rel=1e-9, abs=1e-12)
    posterior = (Decimal("0.5") * 2 + weight * mean) / (2 + weight)
    margin = (posterior * (1 - posterior) / (3 + weight)).sqrt()
    assert estimate.mean == pytest.approx(float(posterior), rel=1e-9)
    assert estimate.lower_bound == pytest.approx(
        float(max(posterior - margin, Decimal(0))), rel=1e-9, abs=1e-12
    )
    assert estimate.upper_bound == pytest.approx(float(min(posterior + margin, Decimal(1))), rel=1e-9)


@given(events=EVENTS)
def test_amount_is_drawn_to_the_prior(events: list[Event]) -> None:
    scaled = [(value * 5_000, weight, when) for value, weight, when in events]
    weight, mean, variance = exact(scaled, NOW_MS)
    estimate = observed(scaled, "latency_ms").estimate(PROVIDER, "latency_ms", at_ms=NOW_MS)
    expected = (1_000 + weight * mean) / (1 + weight)
    spread = (1_000_000 + weight * variance) / (1 + weight)
    margin = (spread / (1 + weight)).sqrt()
    assert estimate.mean == pytest.approx(float(expected), rel=1e-9)
    assert estimate.upper_bound == pytest.approx(float(expected + margin), rel=1e-9)
    assert estimate.lower_bound == pytest.approx(
        float(max(expected - margin, Decimal(0))), rel=1e-9, abs=1e-9
    )


@given(events=EVENTS, data=st.data())
def test_order_does_not_matter(events: list[Event], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(events))
    one = observed(events).estimate(PROVIDER, "success", at_ms=NOW_MS)
    two = observed(shuffled).estimate(PROVIDER, "success", at_ms=NOW_MS)
    assert parts(one) == pytest.approx(parts(two), rel=1e-9, abs=1e-12)


@given(ours=EVENTS, theirs=EVENTS)
def test_merging_is_seeing_both_and_commutes_to_the_bit(ours: list[Event], theirs: list[Event]) -> None:
    one, two = observed(ours), observed(theirs)
    one.merge(observed(theirs))
    two.merge(observed(ours))
    merged = one.estimate(PROVIDER, "success", at_ms=NOW_MS)
    assert parts(merged) == parts(two.estimate(PROVIDER, "success", at_ms=NOW_MS))
    both = observed(ours + theirs).estimate(PROVIDER, "success", at_ms=NOW_MS)
    assert parts(merged) == pytest.approx(parts(both), rel=1e-9, abs=1e-12)


def test_merging_with_itself_doubles_the_weight() -> None:
    quality = observed([(1.0, 1.0, NOW_MS)])
    quality.merge(quality)
    assert quality.estimate(PROVIDER, "success", at_ms=NOW_MS).weight == 2.0


def test_half_is_left_after_each_half_life_for_a_hundred_years() -> None:
    quality = observed([(1.0, 1.0, NOW_MS)])
    weights = [
        quality.estimate(PROVIDER, "success", at_ms=NOW_MS + age * HALF_LIFE_MS).weight
        for age in range(1_000)
    ]
    assert all(later == earlier / 2 for earlier, later in pairwise(weights))
    century_ms = 100 * 365 * 86_400_000
    quality.observe(PROVIDER, "success", 0.0, at_ms=NOW_MS + century_ms)
    estimate = quality.estimate(PROVIDER, "success", at_ms=NOW_MS + century_ms)
    assert estimate.weight == 1.0
    assert estimate.mean == pytest.approx(1 / 3)


def test_nothing_overflows_over_years_of_use() -> None:
    quality = Quality(half_life_ms=1_000)
    for year in range(50):
        for second in range(100):
            at_ms = year * 365 * 86_400_000 + second * 1_000
            quality.observe(PROVIDER, "success", 1.0, at_ms=at_ms)
    assert quality.estimate(PROVIDER, "success", at_ms=at_ms).weight == pytest.approx(2.0)


def test_newcomer_gets_the_prior_and_is_overtaken_by_proof() -> None:
    quality = Quality(half_life_ms=HALF_LIFE_MS)
    newcomer = quality.estimate(b"newcomer", "quality", at_ms=NOW_MS)
    assert (newcomer.mean, newcomer.weight) == (0.5, 0.0)
    bounds = [newcomer.lower_bound]
    for _ in range(20):
        quality.observe(PROVIDER, "quality", 1.0, at_ms=NOW_MS)
        bounds.append(quality.estimate(PROVIDER, "quality", at_ms=NOW_MS).lower_bound)
    assert bounds == sorted(set(bounds))
    assert bounds[-1] > 0.9
    assert len(quality) == 1


def test_what_was_not_seen_for_long_is_forgotten() -> None:
    quality = observed([(1.0, 1.0, NOW_MS)])
    assert quality.prune(at_ms=NOW_MS + HALF_LIFE_MS, weight_min=0.5) == 0
    assert quality.prune(at_ms=NOW_MS + HALF_LIFE_MS + 1, weight_min=0.5) == 1
    assert len(quality) == 0
    assert not quality.remove(PROVIDER)


@pytest.mark.parametrize(
    ("metric", "value", "weight", "provider", "field"),
    [
        ("success", 1.01, 1.0, PROVIDER, "value"),
        ("success", -0.01, 1.0, PROVIDER, "value"),
        ("quality", float("nan"), 1.0, PROVIDER, "value"),
        ("latency_ms", float("inf"), 1.0, PROVIDER, "value"),
        ("latency_ms", -1.0, 1.0, PROVIDER, "value"),
        ("success", 1.0, 0.0, PROVIDER, "weight"),
        ("success", 1.0, 1.5, PROVIDER, "weight"),
        ("success", 1.0, float("nan"), PROVIDER, "weight"),
        ("speed", 1.0, 1.0, PROVIDER, "metric"),
        ("success", 1.0, 1.0, b"", "provider"),
        ("success", 1.0, 1.0, b"x" * 65, "provider"),
    ],
)
def test_bad_input_names_the_field_and_changes_nothing(
    metric: str, value: float, weight: float, provider: bytes, field: str
) -> None:
    quality = Quality()
    with pytest.raises(InvalidInput, match=field) as caught:
        quality.observe(provider, metric, value, at_ms=NOW_MS, weight=weight)
    assert caught.value.field == field
    assert len(quality) == 0


def test_limits_of_a_registry_are_kept() -> None:
    quality = Quality(providers_max=1)
    quality.observe(b"a", "success", 1.0, at_ms=0)
    with pytest.raises(InvalidInput, match="provider"):
        quality.observe(b"b", "success", 1.0, at_ms=0)
    other = Quality()
    other.observe(b"b", "success", 1.0, at_ms=0)
    with pytest.raises(InvalidInput, match="other"):
        quality.merge(other)
    with pytest.raises(InvalidInput, match="half_life_ms"):
        quality.merge(Quality(half_life_ms=1))
    with pytest.raises(InvalidInput, match="half_life_ms"):
        Quality(half_life_ms=0)
    with pytest.raises(InvalidInput, match=r"success_prior must have a mean from 0 to 1$"):
        Quality(success_prior=(1.5, 2.0))
    with pytest.raises(InvalidInput, match="quality_prior must have a weight from 1e-9 to 1e9"):
        Quality(quality_prior=(0.5, 0.0))
