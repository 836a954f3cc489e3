"""Bands that begin at the best, the cap on one turn, and weights of one's own."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import Router

from .offers import candidates, key, offer, request, router_of

WIDTH = 0.1
BY_QUALITY = {"price": 0, "quality": 1, "latency": 0, "availability": 0, "fairness": 0}


def rated(*qualities: float, **settings: Any) -> Router:
    """Offers whose scores are these."""
    given: dict[str, Any] = {"weights": BY_QUALITY, "band_width": WIDTH, **settings}
    router = router_of(*(offer(n, capacity=1_000_000) for n in range(len(qualities))), **given)
    for number, quality in enumerate(qualities):
        router.set_estimates(key(number), quality=quality, latency_ms=1.0, availability=1.0)
    return router


def shares(router: Router, picks: int) -> list[int]:
    found = Counter(router.pick(**request(seed=n)).key for n in range(picks))
    return [found[key(n)] for n in range(len(router))]


class TestBands:
    @pytest.mark.parametrize("best", [0.95 * math.exp(-step / 97) for step in range(60)])
    def test_who_is_within_the_width_of_the_best_is_its_equal_wherever_that_is(self, best: float) -> None:
        """Sixty places: an edge that stood still would part some of them."""
        within = [best, best / 1.03, best / 1.06, best / (1 + WIDTH) * 1.0001]
        assert shares(rated(*within), 40) == [10, 10, 10, 10]

    @pytest.mark.parametrize("best", [0.95 * math.exp(-step / 97) for step in range(60)])
    def test_who_is_a_third_of_the_width_further_gets_nothing(self, best: float) -> None:
        beyond = best / (1 + WIDTH / 3) ** 4 * 0.9999
        assert shares(rated(best, best / 1.01, beyond), 20) == [10, 10, 0]

    def test_begins_lower_when_the_best_is_away(self) -> None:
        router = rated(0.9, 0.8, 0.74, 0.74)
        assert shares(router, 20)[2:] == [0, 0]
        router.set_online(key(0), False)
        assert shares(router, 30) == [0, pytest.approx(10, abs=1), *[pytest.approx(10, abs=1)] * 2]

    def test_the_card_counts_bands_from_the_best(self) -> None:
        listed = candidates(rated(0.9, 0.85, 0.8, 0.7, 0.2).pick(**request()))
        bands = [one["band"] for one in listed]
        assert bands[:2] == [0, 0]
        assert bands == sorted(bands, reverse=True)
        assert bands[-1] < -2


class TestOneTurn:
    @pytest.mark.parametrize("huge", [10_000, 10**9, 2**63 - 1])
    @pytest.mark.parametrize("members", [2, 10])
    def test_who_got_a_huge_request_comes_again_within_the_cap(self, members: int, huge: int) -> None:
        router = rated(*[0.9] * members)
        for seed in range(20 * members):
            router.pick(**request(seed=seed, work_tokens=1_000))
        loaded = router.pick(**request(seed=0, work_tokens=huge)).key
        waited = 0
        while router.pick(**request(seed=waited, work_tokens=1_000)).key != loaded:
            waited += 1
        # Eight turns of each other one, and at most its own share of the mean's growth.
        assert 2 * members < waited <= 10 * members

    def test_the_cap_is_a_setting(self) -> None:
        def waited(times: int) -> int:
            router = rated(0.9, 0.9, turn_times_max=times)
            for seed in range(100):
                router.pick(**request(seed=seed, work_tokens=1_000))
            loaded = router.pick(**request(work_tokens=50_000)).key
            count = 0
            while router.pick(**request(seed=count, work_tokens=1_000)).key != loaded:
                count += 1
            return count

        assert waited(1) <= 2
        assert 45 <= waited(1_000) <= 52

    def test_many_that_are_large_are_no_exception(self) -> None:
        """The mean follows: who gets large ones among large ones pays for each in full."""
        router = rated(0.9, 0.9)
        for seed in range(400):
            router.pick(**request(seed=seed, work_tokens=100))
        for seed in range(400):
            router.pick(**request(seed=seed, work_tokens=50_000))
        loaded = router.pick(**request(work_tokens=200_000)).key
        picks = [router.pick(**request(seed=seed, work_tokens=50_000)).key for seed in range(3)]
        assert loaded not in picks

    @pytest.mark.parametrize("times", [0, 1_000_001])
    def test_a_cap_that_cannot_be_is_refused(self, times: int) -> None:
        with pytest.raises(InvalidInput, match="turn_times_max") as refused:
            Router(turn_times_max=times)
        assert refused.value.field == "turn_times_max"


class TestWeights:
    def test_decide_and_are_on_the_card_and_in_the_snapshot(self) -> None:
        facts = (offer(1, price_microcents=10_000_000), offer(2, price_microcents=300_000_000))
        for weights, winner in (
            ({"price": 9, "quality": 1, "latency": 0, "availability": 0, "fairness": 0}, key(1)),
            ((1, 9, 0, 0, 0), key(2)),
        ):
            router = router_of(*facts, weights=weights)
            router.set_estimates(key(1), quality=0.2, latency_ms=1.0, availability=1.0)
            router.set_estimates(key(2), quality=0.9, latency_ms=1.0, availability=1.0)
            given = list(weights.values()) if isinstance(weights, dict) else list(weights)
            shown = [weight / 10 for weight in given]
            for one in (router, Router.restore(router.snapshot())):
                assert list(one.weights.values()) == shown
                decision = one.pick(**request())
                card = json.loads(decision.card())
                assert decision.key == winner
                assert list(card["weights"].values()) == shown
                for listed in card["candidates"]:
                    parts = [listed[name] for name in card["weights"]]
                    summed = sum(w * part for w, part in zip(shown, parts, strict=True))
                    assert listed["score"] == pytest.approx(summed)
            assert f"<th>{shown[0]:.2f} price</th>" in router.pick(**request(seed=2))._repr_html_()

    def test_are_those_of_the_score_if_none_are_given(self) -> None:
        assert list(Router().weights.values()) == [0.30, 0.25, 0.20, 0.15, 0.10]

    def test_say_what_others_lost_by(self) -> None:
        router = router_of(offer(1), offer(2, price_microcents=10**12), weights=(0, 1, 0, 0, 0))
        router.set_estimates(key(1), quality=0.9, latency_ms=1.0, availability=1.0)
        router.set_estimates(key(2), quality=0.1, latency_ms=1.0, availability=1.0)
        router.pick(**request())
        missed = {tally[0]: tally[4] for tally in router.take_tallies()}
        assert missed[key(2)] == {"quality": 1}

    @pytest.mark.parametrize(
        ("weights", "field", "rule"),
        [
            ((0.3, 0.25, -0.2, 0.15, 0.1), "weights.latency", "at least 0"),
            ((0.3, math.nan, 0.2, 0.15, 0.1), "weights.quality", "finite"),
            ((math.inf, 0.2, 0.2, 0.15, 0.1), "weights.price", "finite"),
            ((0, 0, 0, 0, 0), "weights", "above 0"),
            ((1, 1, 1, 1), "weights", "five"),
            ("abc", "weights", "five"),
            ({"price": 1, "quality": 1, "latency": 1, "availability": 1}, "weights.fairness", "missing"),
            ({**BY_QUALITY, "luck": 1}, "weights", "five"),
        ],
    )
    def test_that_cannot_be_are_refused_by_the_part(self, weights: Any, field: str, rule: str) -> None:
        with pytest.raises(InvalidInput, match=rule) as refused:
            Router(weights=weights)
        assert refused.value.field == field

    def test_of_another_type_are_a_type_error(self) -> None:
        with pytest.raises(TypeError, match=r"weights\.price"):
            Router(weights=("much", 1, 1, 1, 1))  # type: ignore[arg-type]  on purpose


def test_a_snapshot_of_another_version_is_refused_by_its_number() -> None:
    snapshot = bytearray(router_of(offer(1)).snapshot())
    for version, said in ((1, "not 1"), (9, "later")):
        snapshot[8] = version
        with pytest.raises(InvalidInput, match=said) as refused:
            Router.restore(bytes(snapshot))
        assert refused.value.field == "snapshot"
