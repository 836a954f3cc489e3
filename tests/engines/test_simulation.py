"""The closed loop: it is exact where the answer is known, and repeats itself to the last bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import Scenario, SimulatedProvider, SimulatedRequest, Span, simulate
from yggdrasil.scoring.policies import PEERS, Cheapest, RoundRobin, Scored, Seen, TwoChoices
from yggdrasil.scoring.report import table
from yggdrasil.scoring.scenarios import SCENARIOS

STEADY = SimulatedProvider(
    "one", "all", 50_000_000, slots=1, tokens_per_second=100.0, first_ms=500.0, spread=0.0
)


def small(*providers: SimulatedProvider, **changed: float) -> Scenario:
    given: dict[str, float] = {"seconds": 200.0, "rate": 1.0, "sigma": 0.0, **changed}
    return Scenario("small", providers, **given)  # type: ignore[arg-type]  the keywords of the test


def test_without_chance_the_figures_are_those_of_a_calculation() -> None:
    # 300 + 200 tokens at 50 a million: 25,000 micro-cents each; 0.5 s to the first token and 2 s for 200.
    report = simulate(small(STEADY, rate=0.001, seconds=5_000.0), RoundRobin(), seed=3)
    assert report.requests >= 1
    assert report.lost == 0
    assert report.attempts == report.requests
    assert report.cost_microcents == pytest.approx(25_000)
    assert report.cost_per_million == pytest.approx(50_000_000)
    assert report.latency_p50_seconds == pytest.approx(2.5)
    assert report.regret == 0
    assert report.utilisation == pytest.approx(report.requests * 2.5 / 5_000.0)
    assert math.isnan(report.jain)  # nobody to be equal to


def test_requests_wait_in_the_order_of_arrival_and_give_up_after_their_patience() -> None:
    report = simulate(small(STEADY, rate=5.0, patience_seconds=4.0), RoundRobin(), seed=1)
    assert report.lost > report.requests / 2
    # Whoever is served has waited at most 4 s, and is served for 2.5.
    assert 2.5 <= report.latency_p50_seconds <= report.latency_p95_seconds <= 6.5 + 1e-9
    assert report.utilisation > 0.98


def test_what_fails_goes_to_another_provider_and_after_all_attempts_is_lost() -> None:
    broken = [
        SimulatedProvider(f"broken-{i}", "broken", 1, failing=1.0, spread=0.0, slots=50) for i in range(3)
    ]
    alone = simulate(small(*broken, attempts_max=2), RoundRobin(), seed=1)
    assert alone.lost == alone.requests
    assert alone.attempts == 2 * alone.requests
    assert math.isnan(alone.latency_p50_seconds)
    sound = SimulatedProvider("sound", "sound", 10, spread=0.0, slots=500)
    helped = simulate(small(*broken, sound, attempts_max=4), Cheapest(), seed=1)
    assert helped.lost == 0
    assert helped.attempts == 4 * helped.requests


def test_a_provider_that_leaves_while_it_works_has_not_finished() -> None:
    away = SimulatedProvider("away", "away", 1, slots=50, spread=0.0, outages=(Span(100.0, 1_000.0),))
    report = simulate(small(away, patience_seconds=1.0), RoundRobin(), seed=2)
    # Half of the time nobody is there, and who was at work when it left failed, too.
    assert 0.4 < report.lost / report.requests < 0.7


def test_claims_are_paid_up_to_the_tolerance() -> None:
    liar = SimulatedProvider("liar", "liar", 50_000_000, slots=50, spread=0.0, claims=3.0)
    report = simulate(small(liar), RoundRobin(), seed=1)
    assert report.cost_per_million == pytest.approx(62_500_000)


def test_the_index_of_fairness_is_jains() -> None:
    class First(RoundRobin):
        """Whoever is first in the alphabet."""

        def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
            return min(free, key=lambda provider: provider.name)

    four = [SimulatedProvider(f"p{i}", "equal", 1, slots=500, spread=0.0) for i in range(4)]
    assert simulate(small(*four), First(), seed=1).jain == pytest.approx(1 / 4)
    assert simulate(small(*four), RoundRobin(), seed=1).jain > 0.999
    assert simulate(small(*four), RoundRobin(), seed=1).longest_wait == pytest.approx(1.0)


@pytest.mark.parametrize("make", SCENARIOS)
@pytest.mark.parametrize("policy", [Scored, *PEERS])
def test_the_same_seed_gives_the_same_report_and_another_seed_another(make, policy) -> None:  # type: ignore[no-untyped-def]
    whole = make()
    scenario = Scenario(whole.name, whole.providers, seconds=60.0, rate=whole.rate)
    first = simulate(scenario, policy(seed=5), seed=5)
    assert repr(first) == repr(simulate(scenario, policy(seed=5), seed=5))
    assert repr(first) != repr(simulate(scenario, policy(seed=6), seed=6))
    assert first.requests > 100


def test_every_policy_meets_the_same_requests() -> None:
    scenario = SCENARIOS[1]()
    assert list(scenario.requests(4))[:50] == list(scenario.requests(4))[:50]
    counts = {simulate(small(STEADY), policy(seed=1), 9).requests for policy in (Scored, *PEERS)}
    assert len(counts) == 1


class Watching(TwoChoices):
    """Checks that it is told the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.here: set[str] = set()
        self.slots: dict[str, int] = {}

    def join(self, provider: SimulatedProvider, second: float) -> None:
        assert provider.name not in self.here
        assert provider.present(second)
        self.here.add(provider.name)

    def leave(self, provider: SimulatedProvider, second: float) -> None:
        self.here.remove(provider.name)

    def pick(
        self,
        request: SimulatedRequest,
        free: Sequence[SimulatedProvider],
        tried: Sequence[SimulatedProvider],
        second: float,
    ) -> SimulatedProvider | None:
        for provider in free:
            assert provider.name in self.here
            assert provider not in tried
            assert self.slots.get(provider.name, 0) < provider.slots
        chosen = super().pick(request, free, tried, second)
        if chosen is not None:
            self.slots[chosen.name] = self.slots.get(chosen.name, 0) + 1
        return chosen

    def release(self, provider: SimulatedProvider) -> None:
        super().release(provider)
        self.slots[provider.name] -= 1

    def observe(self, seen: Seen) -> None:
        assert seen.second >= 0


@given(
    st.lists(
        st.builds(
            SimulatedProvider,
            name=st.uuids().map(str),
            kind=st.sampled_from("ab"),
            price_microcents=st.integers(0, 10**9),
            slots=st.integers(1, 3),
            failing=st.sampled_from([0.0, 0.3, 1.0]),
            joins=st.sampled_from([0.0, 7.0]),
            leaves=st.sampled_from([30.0, math.inf]),
            outages=st.sampled_from([(), (Span(5.0, 9.0),), (Span(5.0, 9.0), Span(9.0, 12.0))]),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda provider: provider.name,
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_every_request_is_answered_or_lost_and_every_slot_is_given_back(
    providers: list[SimulatedProvider], seed: int
) -> None:
    policy = Watching()
    scenario = Scenario("any", providers, seconds=40.0, rate=2.0, patience_seconds=3.0)
    report = simulate(scenario, policy, seed)
    assert report.requests == len(list(scenario.requests(seed)))
    assert not any(policy.slots.values())
    assert 0 <= report.lost <= report.requests


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"slots": 0}, "slots"),
        ({"failing": 1.5}, "failing"),
        ({"price_microcents": -1}, "price_microcents"),
        ({"first_ms": 0.0}, "first_ms"),
        ({"tokens_per_second": math.nan}, "tokens_per_second"),
    ],
)
def test_a_provider_that_cannot_be_is_refused_by_the_field(changed: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        SimulatedProvider("x", "x", **{"price_microcents": 1, **changed})  # type: ignore[arg-type]  on purpose
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"seconds": 0.0}, "seconds"), ({"rate": -1.0}, "rate"), ({"attempts_max": 0}, "attempts_max")],
)
def test_a_scenario_that_cannot_be_is_refused_by_the_field(changed: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        small(STEADY, **changed)
    assert raised.value.field == field
    with pytest.raises(InvalidInput, match="names must differ"):
        small(STEADY, STEADY)


def test_reports_are_shown_as_a_table() -> None:
    report = simulate(small(STEADY), RoundRobin(), seed=1)
    assert "<td>round robin</td>" in report._repr_html_()
    assert table([report, report]).count("<tr>") == 3
