"""What the router's indexes promise: turns, newcomers, counts over picks, epochs in slices, snapshots."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import Router

from .offers import BUYER, candidates, key, offer, request, router_of


def waits(picks: list[bytes], members: list[bytes]) -> dict[bytes, int]:
    """The most picks in a row that each member was passed over."""
    longest = dict.fromkeys(members, 0)
    since = dict.fromkeys(members, 0)
    for picked in picks:
        for member in members:
            since[member] = 0 if member == picked else since[member] + 1
            longest[member] = max(longest[member], since[member])
    return longest


class TestTurns:
    @pytest.mark.parametrize("members", [2, 7, 60])
    def test_no_member_of_a_band_waits_over_twice_its_size(self, members: int) -> None:
        router = router_of(*(offer(n, capacity=3) for n in range(members)), work_reference_tokens=1e15)
        chance = random.Random(members)
        running: list[bytes] = []
        picks: list[bytes] = []
        while len(picks) < 40 * members:
            while len(running) > members or (running and chance.random() < 0.5):
                router.release(running.pop(chance.randrange(len(running))))
            picked = router.pick(**request(seed=len(picks))).key
            assert picked is not None
            picks.append(picked)
            running.append(picked)
        assert max(waits(picks, [key(n) for n in range(members)]).values()) <= 2 * members

    def test_waits_are_in_proportion_to_capacity(self) -> None:
        """With capacities c a member comes again within 2 · Σc / c picks of equal work."""
        capacities = {key(n): capacity * 1_000 for n, capacity in enumerate([1, 2, 3, 4, 10])}
        router = router_of(
            *(offer(n, capacity=capacities[key(n)]) for n in range(5)), work_reference_tokens=1e15
        )
        picks = [router.pick(**request(seed=n)).key or b"" for n in range(2_000)]
        shares = Counter(picks)
        for member, longest in waits(picks, list(capacities)).items():
            share = capacities[member] / sum(capacities.values())
            assert longest <= 2 / share
            assert shares[member] == pytest.approx(2_000 * share, abs=2)

    def test_what_others_do_at_home_changes_nobodys_order(self) -> None:
        def order(busy: bool) -> list[bytes | None]:
            router = router_of(
                offer(1, owner=BUYER, visibility="own", capacity=2, group_capacity=99),
                offer(2, owner=BUYER, visibility="own", capacity=3, group_capacity=99),
                *(offer(n, visibility="own", capacity=10**6) for n in range(3, 6)),
            )
            picks = []
            for seed in range(40):
                if busy:
                    router.pick(**request(network=offer(3)["owner"], scope="own", seed=seed))
                picks.append(router.pick(**request(scope="own", seed=seed, work_tokens=seed)).key)
                router.release(picks[-1] or b"")
            return picks

        assert order(busy=False) == order(busy=True)


class TestNewcomers:
    @pytest.mark.parametrize("seed", range(20))
    def test_one_among_a_hundred_gets_a_job_within_fifty_picks(self, seed: int) -> None:
        router = router_of(*(offer(n, capacity=10**6) for n in range(100)), newcomer_ppm=50_000)
        for number in range(1, 100):
            router.set_estimates(key(number), quality=1.0, latency_ms=0.0, availability=1.0)
        for number in range(1, 100):
            for _ in range(3):
                assert router.pick(**request(only=[key(number)])).key == key(number)
        router.take_tallies()
        chance = random.Random(seed)
        picks = [router.pick(**request(seed=chance.getrandbits(64))) for _ in range(50)]
        assert key(0) in [one.key for one in picks]
        first = next(one for one in picks if one.key == key(0))
        assert first.explored
        assert first.propensity in (0.05, 1.0)


class TestPropensity:
    def test_is_how_often_each_offer_is_picked_in_the_same_state(self) -> None:
        """Each seed of 20,000 from the same state; all outcomes, by frequency, against what was recorded."""
        router = router_of(
            *(offer(n, price_microcents=10_000_000 * n) for n in range(6)),
            explore_ppm=200_000,
            newcomer_ppm=100_000,
        )
        for number in range(4):
            for _ in range(3):
                router.release(router.pick(**request(only=[key(number)], work_tokens=0)).key or b"")
        state = router.snapshot()
        recorded: dict[bytes, set[float]] = {}
        found: Counter[bytes] = Counter()
        for seed in range(4_000):
            one = Router.restore(state).pick(**request(seed=seed * 7_919, work_tokens=0))
            assert one.key is not None
            assert one.propensity is not None
            found[one.key] += 1
            recorded.setdefault(one.key, set()).add(one.propensity)
        assert all(len(values) == 1 for values in recorded.values())
        assert sum(max(values) for values in recorded.values()) == pytest.approx(1.0)
        for picked, (propensity,) in recorded.items():
            sigma = (propensity * (1 - propensity) / 4_000) ** 0.5
            assert abs(found[picked] / 4_000 - propensity) < 5 * sigma


class TestCounts:
    def test_stay_true_over_many_picks(self) -> None:
        """Thousands of picks between two looks: sums are exact, the split by reason within some per cent."""
        router = router_of(
            offer(0, capacity=10**6),
            offer(1, capacity=10**6, price_microcents=10**12),
            offer(2, capacity=10**6, price_microcents=200_000_000),
            offer(3, capacity=0),
            work_reference_tokens=1e12,
        )
        router.set_estimates(key(0), quality=1.0, latency_ms=0.0, availability=1.0)
        limits = [None, None, 150_000_000]
        for seed in range(3_000):
            assert router.pick(**request(seed=seed, price_microcents_max=limits[seed % 3])).key == key(0)
        found = {one[0]: one[1:] for one in router.take_tallies()}
        assert found[key(0)][:2] == (3_000, 3_000)
        assert found[key(0)][2] == pytest.approx(2_000 / 3 + 1_000)
        assert found[key(3)] == (3_000, 0, 0.0, {"capacity": 3_000})
        dear = found[key(2)]
        assert (dear[0], sum(dear[3].values())) == (3_000, 3_000)
        assert dear[3]["max_price"] == 1_000
        assert dear[2] == pytest.approx(2_000 / 3)
        assert router.take_tallies() == []


class TestWishes:
    def test_a_highest_price_is_kept_among_many(self) -> None:
        router = router_of(*(offer(n, price_microcents=1_000 * n, capacity=99) for n in range(500)))
        for most in (0, 1_000, 123_456, 499_000, 10**9):
            decision = router.pick(**request(price_microcents_max=most))
            fitting = min(most // 1_000 + 1, 500)
            assert (decision.feasible, decision.gates["max_price"]) == (fitting, 500 - fitting)
            assert decision.key is not None
            assert int.from_bytes(decision.key, "big") * 1_000 <= most

    def test_effective_weights_say_what_decided(self) -> None:
        router = router_of(offer(1), offer(2, price_microcents=10**12))
        card: dict[str, Any] = json.loads(router.pick(**request(work_tokens=0)).card())
        assert card["effective_weights"] == {
            "price": 1.0,
            "quality": 0.0,
            "latency": 0.0,
            "availability": 0.0,
            "fairness": 0.0,
        }


class TestEpochs:
    def test_in_slices_end_where_one_sweep_ends(self) -> None:
        whole, sliced = (
            router_of(*(offer(n, capacity=9, price_microcents=n) for n in range(50))) for _ in range(2)
        )
        for seed in range(200):
            assert whole.pick(**request(seed=seed)).key == sliced.pick(**request(seed=seed)).key
        assert whole.tick(600_000)
        steps = [sliced.tick(600_000, offers_max=20) for _ in range(3)]
        assert steps == [False, False, True]
        one, two = whole.pick(**request()), sliced.pick(**request())
        assert candidates(one) == candidates(two)
        assert whole.snapshot() == sliced.snapshot()


class TestSnapshots:
    def test_a_restored_router_goes_on_with_the_same_bytes(self) -> None:
        router = router_of(*(offer(n) for n in range(30)), explore_ppm=200_000, newcomer_ppm=50_000)
        for seed in range(60):
            router.pick(**request(seed=seed))
        other = Router.restore(router.snapshot())
        assert other.snapshot() == router.snapshot()
        for seed in range(60):
            assert other.pick(**request(seed=seed)).card() == router.pick(**request(seed=seed)).card()
        assert other.take_tallies() == router.take_tallies()

    @pytest.mark.parametrize("bad", [b"", b"YggRoutr", b"x" * 400])
    def test_anything_else_is_refused(self, bad: bytes) -> None:
        with pytest.raises(InvalidInput, match="snapshot") as caught:
            Router.restore(bad)
        assert caught.value.field == "snapshot"


def test_many_at_once_are_the_same_picks() -> None:
    one, many = (router_of(*(offer(n) for n in range(20)), explore_ppm=100_000) for _ in range(2))
    wishes = request()
    del wishes["seed"]
    single = [one.pick(**wishes, seed=seed) for seed in range(100)]
    picked = many.pick_many(**wishes, seeds=range(100))
    assert [(p.key, p.explored, p.propensity) for p in single if p.key] == [p for p in picked if p]
    assert [p.key is None for p in single] == [p is None for p in picked]
    assert one.snapshot() == many.snapshot()
    with pytest.raises(InvalidInput, match="seeds"):
        many.pick_many(**wishes, seeds=[1, -1])
    assert one.snapshot() == many.snapshot()
