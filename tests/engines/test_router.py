"""The promises of the router, one by one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import Router

from .offers import BUYER, OTHER, candidates, key, offer, request, router_of


class TestPick:
    def test_prefers_what_scores_clearly_better(self) -> None:
        router = router_of(offer(1), offer(2, price_microcents=1_000_000))
        assert router.pick(**request()).key == key(2)
        router.set_estimates(key(1), quality=1.0, latency_ms=10.0, availability=1.0)
        router.set_estimates(key(2), quality=0.1, latency_ms=9_000.0, availability=0.2)
        assert router.pick(**request()).key == key(1)

    def test_equals_take_turns(self) -> None:
        router = router_of(*(offer(n, capacity=1_000) for n in range(7)), work_reference_tokens=1e12)
        picks = Counter(router.pick(**request(seed=n)).key for n in range(700))
        assert set(picks.values()) == {100}

    def test_turns_are_weighed_by_capacity(self) -> None:
        router = router_of(offer(1, capacity=1_000), offer(2, capacity=3_000), work_reference_tokens=1e12)
        picks = Counter(router.pick(**request(seed=n)).key for n in range(400))
        assert picks == {key(1): 100, key(2): 300}

    def test_who_joins_late_has_no_credit(self) -> None:
        router = router_of(offer(1, capacity=5_000), work_reference_tokens=1e12)
        for n in range(1_000):
            router.pick(**request(seed=n))
        router.upsert(**offer(1, capacity=5_000, context_tokens=9_000))
        router.upsert(**offer(2, capacity=5_000))
        router.set_online(key(2), True)
        picks = Counter(router.pick(**request(seed=n)).key for n in range(100))
        assert abs(picks[key(1)] - picks[key(2)]) <= 1

    def test_work_given_lowers_the_score_until_it_fades(self) -> None:
        router = router_of(offer(1))
        before = candidates(router.pick(**request(work_tokens=0)))[0]["fairness"]
        router.pick(**request(work_tokens=100_000))
        assert before == 1.0
        router.release(key(1))
        assert candidates(router.pick(**request(work_tokens=0)))[0]["fairness"] == 0.5
        router.release(key(1))
        router.tick(600_000)
        assert candidates(router.pick(**request(work_tokens=0)))[0]["fairness"] == pytest.approx(2 / 3)

    def test_only_the_provider_concerned_changes_its_score_between_epochs(self) -> None:
        router = router_of(*(offer(n, price_microcents=n * 10_000_000) for n in range(1, 9)))

        def scores(now_ms: int) -> dict[str, float]:
            nobody = router.pick(**request(now_ms=now_ms, only=[key(n) for n in range(9)], work_tokens=0))
            assert nobody.key is not None
            router.release(nobody.key)
            return {c["key"]: c["score"] for c in candidates(nobody)}

        before = scores(0)
        chosen = router.pick(**request(now_ms=5, work_tokens=50_000)).key
        assert chosen is not None
        after = scores(9_999_999)
        assert {name for name in before if before[name] != after[name]} == {chosen.hex()}

    def test_takes_a_slot_until_it_is_given_back(self) -> None:
        router = router_of(offer(1, capacity=2))
        assert [router.pick(**request()).key for _ in range(3)] == [key(1), key(1), None]
        assert router.pick(**request()).gates["capacity"] == 1
        assert router.release(key(1))
        assert router.pick(**request()).key == key(1)
        assert router.release(key(1))
        assert router.release(key(1))
        assert not router.release(key(1))
        assert not router.release(key(9))

    def test_explores_as_often_as_set_and_records_the_probability(self) -> None:
        router = router_of(*(offer(n, capacity=10**6) for n in range(4)), explore_ppm=20_000)
        router.set_estimates(key(0), quality=1.0, latency_ms=0.0, availability=1.0)
        decisions = [router.pick(**request(seed=n, work_tokens=0)) for n in range(20_000)]
        share = sum(d.explored for d in decisions) / len(decisions)
        assert 0.016 < share < 0.024
        by_chance = [d for d in decisions if d.key != key(0)]
        assert {d.propensity for d in by_chance} == {0.005}
        assert all(d.explored for d in by_chance)
        assert all(d.propensity == pytest.approx(0.985) for d in decisions if d.key == key(0))
        assert len(by_chance) / len(decisions) == pytest.approx(0.015, abs=0.004)


class TestGates:
    @pytest.mark.parametrize(
        ("gate", "facts", "wishes"),
        [
            ("model", {}, {"model": "large"}),
            ("owner", {"owner": BUYER}, {}),
            ("only", {}, {"only": [key(2)]}),
            ("ignore", {}, {"ignore": [key(1)]}),
            ("tried", {}, {"tried": [key(1)]}),
            ("context", {}, {"context_tokens": 8_193}),
            ("max_price", {}, {"price_microcents_max": 99_999_999}),
            ("capacity", {"capacity": 0}, {}),
        ],
    )
    def test_name_the_unmet_wish(self, gate: str, facts: dict[str, Any], wishes: dict[str, Any]) -> None:
        decision = router_of(offer(1, **facts)).pick(**request(**wishes))
        assert (decision.key, decision.group, decision.owner, decision.propensity) == (None,) * 4
        assert {name: count for name, count in decision.gates.items() if count} == {gate: 1}
        assert json.loads(decision.card())["gates"] == decision.gates

    def test_offline_and_removed_offers_are_not_picked(self) -> None:
        router = router_of(offer(1))
        router.set_online(key(1), False)
        assert router.pick(**request()).gates["online"] == 1
        assert router.remove(key(1))
        assert not router.remove(key(1))
        assert sum(router.pick(**request()).gates.values()) == 0
        assert len(router) == 0

    def test_own_network_is_served_by_its_own_offers_alone(self) -> None:
        router = router_of(offer(1, owner=BUYER, visibility="own"), offer(2))
        assert router.pick(**request(scope="own")).key == key(1)
        assert router.pick(**request(scope="market")).key == key(2)
        assert router.pick(**request(scope="market", network=OTHER, only=[key(1)])).key is None

    def test_nothing_tells_of_offers_the_requester_may_not_know_of(self) -> None:
        """The same cards with and without them: private offers in the market, foreign ones at home."""
        for scope, hidden in (("market", {"visibility": "own"}), ("own", {})):
            plain = router_of(offer(1), offer(2, owner=BUYER))
            crowded = router_of(
                offer(1), offer(2, owner=BUYER), *(offer(n, owner=OTHER, **hidden) for n in range(3, 40))
            )
            for model in ("small", "large"):
                one = plain.pick(**request(scope=scope, model=model))
                two = crowded.pick(**request(scope=scope, model=model))
                assert one.card() == two.card()


class TestBreaker:
    def test_opens_after_failures_in_a_row_and_probes_one_at_a_time(self) -> None:
        router = router_of(offer(1), breaker_failures=3, breaker_open_ms=1_000)
        group = key(1_001)
        for ok in (False, False, True, False, False):
            router.report(group, ok, 0)
        assert router.breaker_state(group, 0) == "closed"
        router.report(group, False, 0)
        assert router.breaker_state(group, 999) == "open"
        assert router.pick(**request(now_ms=999)).gates["breaker"] == 1
        assert router.breaker_state(group, 1_000) == "half_open"
        assert router.pick(**request(now_ms=1_000)).key == key(1)
        assert router.pick(**request(now_ms=1_000)).gates["breaker"] == 1
        router.report(group, True, 1_100)
        router.release(key(1))
        assert router.breaker_state(group, 1_100) == "closed"

    def test_stays_open_twice_as_long_after_each_failed_probe(self) -> None:
        router = router_of(offer(1), breaker_failures=1, breaker_open_ms=1_000, breaker_open_ms_max=3_000)
        group, now_ms = key(1_001), 0
        router.report(group, False, now_ms)
        for length_ms in (1_000, 2_000, 3_000, 3_000):
            assert router.breaker_state(group, now_ms + length_ms - 1) == "open"
            now_ms += length_ms
            assert router.pick(**request(now_ms=now_ms)).key == key(1)
            router.report(group, False, now_ms)
            router.release(key(1))

    def test_gives_up_a_probe_that_never_ends(self) -> None:
        router = router_of(offer(1), breaker_failures=1, breaker_open_ms=1_000)
        router.report(key(1_001), False, 0)
        assert router.pick(**request(now_ms=1_000)).key == key(1)
        assert router.pick(**request(now_ms=1_999)).key is None
        assert router.pick(**request(now_ms=2_000)).key == key(1)

    def test_probe_is_freed_by_the_end_of_its_own_request_alone(self) -> None:
        router = router_of(offer(1), offer(2, group=key(1_001), price_microcents=0), breaker_failures=1)
        assert router.pick(**request(only=[key(1)])).key == key(1)
        router.report(key(1_001), False, 0)
        assert router.pick(**request(now_ms=10_000, only=[key(2)])).key == key(2)
        router.release(key(1))
        assert router.pick(**request(now_ms=10_000)).gates["breaker"] == 2
        router.release(key(2))
        assert router.pick(**request(now_ms=10_000)).key == key(2)

    def test_outlives_the_offers_of_its_device(self) -> None:
        router = router_of(offer(1), breaker_failures=1)
        router.report(key(1_001), False, 0)
        router.remove(key(1))
        router.upsert(**offer(1))
        router.set_online(key(1), True)
        assert router.pick(**request()).gates["breaker"] == 1
        router.tick(3_600_000)
        assert router.breaker_state(key(1_001), 3_600_000) == "closed"


class TestBadInput:
    @pytest.mark.parametrize(
        ("facts", "field"),
        [
            ({"key": b"short"}, "key"),
            ({"owner": b""}, "owner"),
            ({"group": b"x" * 17}, "group"),
            ({"model": ""}, "model"),
            ({"model": "m" * 257}, "model"),
            ({"price_microcents": -1}, "price_microcents"),
            ({"price_microcents": 2**63}, "price_microcents"),
            ({"context_tokens": 0}, "context_tokens"),
            ({"capacity": -1}, "capacity"),
            ({"visibility": "all"}, "visibility"),
        ],
    )
    def test_offer_names_the_field_and_changes_nothing(self, facts: dict[str, Any], field: str) -> None:
        router = Router()
        with pytest.raises(InvalidInput, match=field) as caught:
            router.upsert(**offer(1, **facts))
        assert caught.value.field == field
        assert len(router) == 0

    @pytest.mark.parametrize(
        ("wishes", "field"),
        [
            ({"model": ""}, "model"),
            ({"network": b""}, "network"),
            ({"scope": "all"}, "scope"),
            ({"context_tokens": -1}, "context_tokens"),
            ({"work_tokens": -1}, "work_tokens"),
            ({"price_microcents_max": -1}, "price_microcents_max"),
            ({"only": [b"x"]}, "only"),
            ({"ignore": [key(1)] * 1_025}, "ignore"),
            ({"tried": [key(1)] * 1_025}, "tried"),
            ({"now_ms": 2**63}, "now_ms"),
            ({"seed": -1}, "seed"),
            ({"seed": 2**64}, "seed"),
        ],
    )
    def test_request_names_the_field_and_takes_no_slot(self, wishes: dict[str, Any], field: str) -> None:
        router = router_of(offer(1, capacity=1))
        with pytest.raises(InvalidInput, match=field) as caught:
            router.pick(**request(**wishes))
        assert caught.value.field == field
        assert router.pick(**request()).key == key(1)

    def test_estimates_and_settings_name_the_field(self) -> None:
        router = router_of(offer(1))
        good = {"quality": 0.5, "latency_ms": 1.0, "availability": 0.5}
        for field, value in (("quality", 1.1), ("latency_ms", -1.0), ("availability", float("nan"))):
            with pytest.raises(InvalidInput, match=field):
                router.set_estimates(key(1), **(good | {field: value}))
        for setting, value in (("band_width", 0.0), ("explore_ppm", 1_000_001), ("quality_prior", 2.0)):
            with pytest.raises(InvalidInput, match=setting):
                Router(**{setting: value})  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="price_reference"):
            router.set_references("small", price_reference=0.0, latency_reference_ms=1.0)

    def test_full_router_takes_changes_only(self) -> None:
        router = Router(offers_max=1)
        router.upsert(**offer(1))
        router.upsert(**offer(1, price_microcents=5))
        with pytest.raises(InvalidInput, match="key"):
            router.upsert(**offer(2))


def test_a_preferred_offer_goes_first_while_it_is_nearly_the_best() -> None:
    offers = [offer(n, price_microcents=price) for n, price in ((1, 1), (2, 1), (3, 20_000_000), (4, 10**12))]
    router = router_of(*offers)

    def picked(number: int, **wishes: Any) -> bytes | None:
        return router.pick(**request(prefer=key(number), work_tokens=0, **wishes)).key

    bands = {one["key"]: one["band"] for one in candidates(router.pick(**request(work_tokens=0)))}
    best = bands[key(1).hex()]
    assert (bands[key(2).hex()], bands[key(3).hex()]) == (best, best - 1)
    assert bands[key(4).hex()] < best - 1
    assert [picked(n) for n in (1, 2, 3)] == [key(1), key(2), key(3)]
    assert picked(4) in (key(1), key(2))
    # A preference passes no gate.
    assert picked(3, tried=[key(3)]) in (key(1), key(2))
    assert picked(3, only=[key(2)]) == key(2)
    router.set_online(key(3), False)
    assert picked(3) in (key(1), key(2))
    assert picked(99) in (key(1), key(2))
