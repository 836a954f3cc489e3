"""The router's promises to sellers: what it counts for them, when they are closed, and how they lose work and
get it back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from .offers import BUYER, OTHER, SELLER, key, offer, request, router_of


def missed(router: Any, number: int) -> dict[str, int]:
    found: dict[str, int] = {one[0]: one[4] for one in router.take_tallies()}[key(number)]
    return found


class TestTallies:
    @pytest.mark.parametrize(
        ("gate", "facts", "wishes"),
        [
            ("only", {}, {"only": [key(2)]}),
            ("ignore", {}, {"ignore": [key(1)]}),
            ("tried", {}, {"tried": [key(1)]}),
            ("context", {}, {"context_tokens": 8_193}),
            ("context", {"output_tokens": 10}, {"output_tokens": 11}),
            ("max_price", {}, {"price_microcents_max": 99_999_999}),
            ("capacity", {"capacity": 0}, {}),
            ("capacity", {"group_capacity": 0}, {}),
        ],
    )
    def test_each_gate_is_counted_at_the_offer(
        self, gate: str, facts: dict[str, Any], wishes: dict[str, Any]
    ) -> None:
        router = router_of(offer(1, **facts))
        assert router.pick(**request(**wishes)).gates[gate] == 1
        assert router.take_tallies() == [(key(1), 1, 0, 0.0, {gate: 1})]
        assert router.take_tallies() == []

    def test_what_passed_lost_by_the_part_that_cost_it_most(self) -> None:
        router = router_of(
            offer(1),
            offer(2, price_microcents=10**12),
            offer(3),
            offer(4),
            offer(5),
            work_reference_tokens=1.0,
        )
        good = {"quality": 0.9, "latency_ms": 500.0, "availability": 1.0}
        for number, worse in enumerate(
            ({}, {}, {"quality": 0.1}, {"latency_ms": 9_000.0}, {"availability": 0.2}), start=1
        ):
            router.set_estimates(key(number), **(good | worse))
        assert router.pick(**request(work_tokens=0)).key == key(1)
        found = {one[0]: one[1:] for one in router.take_tallies()}
        assert found[key(1)] == (1, 1, 0.2, {})
        reasons = {number: found[key(number)][3] for number in (2, 3, 4, 5)}
        assert reasons == {2: {"price": 1}, 3: {"quality": 1}, 4: {"latency": 1}, 5: {"availability": 1}}
        router.pick(**request(work_tokens=10**9, only=[key(1)]))
        router.take_tallies()
        router.upsert(**offer(6))
        router.set_online(key(6), True)
        router.set_estimates(key(6), **good)
        assert router.pick(**request(work_tokens=0)).key == key(6)
        assert missed(router, 1) == {"fairness": 1}

    def test_equals_miss_by_turn_and_shares_add_up(self) -> None:
        router = router_of(*(offer(n, capacity=1_000) for n in range(4)), work_reference_tokens=1e12)
        for seed in range(100):
            router.pick(**request(seed=seed))
        found = router.take_tallies()
        assert [one[1:4] for one in found] == [(100, 25, 25.0)] * 4
        assert all(one[4] == {"turn": 75} for one in found)

    def test_nothing_is_counted_at_offers_that_the_requester_may_not_know_of(self) -> None:
        router = router_of(offer(1, visibility="own"), offer(2, owner=BUYER))
        router.pick(**request())
        router.pick(**request(network=OTHER, scope="own"))
        assert router.take_tallies() == []

    def test_requests_to_the_market_are_counted_and_those_of_offerers_apart(self) -> None:
        router = router_of(offer(1))
        for network, scope in ((BUYER, "market"), (SELLER, "market"), (SELLER, "own")):
            router.pick(**request(network=network, scope=scope, model="other"))
        assert router.take_asked() == (2, {SELLER: 1})
        assert router.take_asked() == (0, {})


class TestClosed:
    def test_a_closed_offer_gets_nothing_and_looks_like_one_that_is_away(self) -> None:
        router = router_of(offer(1))
        assert router.set_open(key(1), False)
        closed = router.pick(**request())
        assert router.take_tallies()[0][4] == {"closed": 1}
        router.set_open(key(1), True)
        router.set_online(key(1), False)
        assert router.pick(**request()).card() == closed.card()
        router.set_online(key(1), True)
        assert router.pick(**request()).key == key(1)
        assert not router.set_open(key(9), True)

    def test_it_keeps_how_it_stands(self) -> None:
        router = router_of(offer(1, capacity=1))
        router.pick(**request())
        router.set_open(key(1), False)
        router.upsert(**offer(1, capacity=1))
        router.set_open(key(1), True)
        assert router.pick(**request()).gates["capacity"] == 1


class TestDeviceCapacity:
    def test_offers_of_a_device_share_its_slots(self) -> None:
        shared = {"group": key(500), "capacity": 2, "group_capacity": 3}
        router = router_of(offer(1, **shared), offer(2, model="large", **shared))
        assert [router.pick(**request()).key for _ in range(3)] == [key(1), key(1), None]
        assert [router.pick(**request(model="large")).key for _ in range(2)] == [key(2), None]
        assert router.load(key(500)) == 3
        router.release(key(1))
        assert router.pick(**request(model="large")).key == key(2)
        router.remove(key(2))
        assert router.load(key(500)) == 1
        router.upsert(**offer(1, group=key(501)))
        assert (router.load(key(500)), router.load(key(501))) == (0, 1)


class TestNewcomers:
    def test_some_picks_go_to_who_was_hardly_ever_picked(self) -> None:
        router = router_of(*(offer(n, capacity=10**6) for n in range(3)), newcomer_ppm=50_000)
        for number in (0, 1):
            router.set_estimates(key(number), quality=1.0, latency_ms=0.0, availability=1.0)
        decisions = [router.pick(**request(seed=n, work_tokens=0)) for n in range(2_000)]
        picks = Counter(decision.key for decision in decisions)
        assert picks[key(2)] == 3
        new = [decision for decision in decisions if decision.key == key(2)]
        assert all(decision.explored and decision.propensity == 0.05 for decision in new[1:])
        assert decisions[-1].propensity == 1.0
        assert decisions.index(new[0]) < 200


SETTINGS: dict[str, Any] = {"breaker_window": 16, "breaker_successes": 3, "breaker_tested_apart": True}


class TestBreakers:
    def test_who_fails_every_second_time_is_cut_off(self) -> None:
        router = router_of(offer(1), **SETTINGS)
        reports = 0
        while router.breaker_state(key(1_001), 0) == "closed":
            router.report(key(1_001), reports % 2 == 0, 0)
            reports += 1
        assert reports == 8

    def test_who_fails_one_time_in_four_is_not(self) -> None:
        router = router_of(offer(1), **SETTINGS)
        for number in range(200):
            router.report(key(1_001), number % 4 != 0, 0)
        assert router.breaker_state(key(1_001), 0) == "closed"

    def test_tested_apart_no_request_goes_through_until_successes_close_it(self) -> None:
        router = router_of(offer(1), **SETTINGS)
        for _ in range(5):
            router.report(key(1_001), False, 0)
        now_ms = 10_000
        assert router.breaker_state(key(1_001), now_ms) == "half_open"
        for ok in (True, True):
            assert router.pick(**request(now_ms=now_ms)).gates["breaker"] == 1
            router.report(key(1_001), ok, now_ms)
        router.report(key(1_001), False, now_ms)
        assert router.breaker_state(key(1_001), now_ms + 19_999) == "open"
        now_ms += 20_000
        for _ in range(3):
            router.report(key(1_001), True, now_ms)
        assert router.breaker_state(key(1_001), now_ms) == "closed"
        assert router.pick(**request(now_ms=now_ms)).key == key(1)

    def test_an_owner_is_cut_off_with_all_his_devices_and_bears_more(self) -> None:
        router = router_of(offer(1), offer(2), offer(3, owner=OTHER), **SETTINGS)
        for _ in range(15):
            router.report_owner(SELLER, False, 0)
        assert router.breaker_state(SELLER, 0) == "closed"
        router.report_owner(SELLER, False, 0)
        assert router.breaker_state(SELLER, 0) == "open"
        assert router.pick(**request()).gates["breaker"] == 2
        assert router.pick(**request()).key == key(3)


class TestMedians:
    def test_are_of_the_offers_that_could_serve_the_market_now(self) -> None:
        router = router_of(
            *(offer(n, price_microcents=price) for n, price in enumerate((1, 20, 300, 4_000, 50_000))),
            offer(7, visibility="own", price_microcents=0),
            offer(8, model="nobody there"),
        )
        for number in range(5):
            router.set_estimates(key(number), quality=0.5, latency_ms=10.0 * number, availability=0.5)
        assert router.medians() == [("small", 300.0, 20.0)]
        router.set_open(key(4), False)
        router.set_online(key(3), False)
        assert router.medians() == [("small", 20.0, 10.0)]
