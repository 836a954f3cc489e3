"""The router against its definition: the same winner, ranking and counts over thousands of random events."""

from __future__ import annotations

import random
from typing import Any

import pytest

from yggdrasil.scoring import Router

from .offers import BUYER, OTHER, SELLER, candidates, key, offer, request, router_of
from .reference_router import ReferenceRouter

SETTINGS = {
    "explore_ppm": 100_000,
    "breaker_failures": 3,
    "breaker_open_ms": 2_000,
    "breaker_open_ms_max": 10_000,
}


class Events:
    """A day in the life of a market, from a seed; each event goes to both routers."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.chance = random.Random(seed)
        self.ours = Router(**SETTINGS, **settings)
        self.theirs = ReferenceRouter(**SETTINGS, **settings)
        self.now_ms = 0
        self.busy: list[tuple[bytes, bytes]] = []
        self.picked = 0

    def both(self, name: str, *args: Any, **kwargs: Any) -> None:
        assert getattr(self.ours, name)(*args, **kwargs) == getattr(self.theirs, name)(*args, **kwargs), name

    def some_key(self) -> bytes:
        return key(self.chance.randrange(30))

    def some_keys(self) -> list[bytes]:
        return [self.some_key() for _ in range(self.chance.choice([0, 0, 0, 0, 1, 3, 20]))]

    def step(self) -> None:
        chance = self.chance
        self.now_ms += chance.choice([0, 1, 50, 700])
        event = chance.choices(
            ["pick", "end", "upsert", "online", "estimates", "tick", "report", "remove", "references"],
            [40, 34, 8, 8, 6, 2, 4, 1, 0.3],
        )[0]
        getattr(self, event)()

    def upsert(self) -> None:
        number = self.chance.randrange(30)
        self.both(
            "upsert",
            **offer(
                number,
                owner=self.chance.choice([BUYER, SELLER, OTHER]),
                group=key(self.chance.randrange(12)),
                model=self.chance.choice(["small", "small", "large"]),
                price_microcents=self.chance.choice([0, 5_000_000, 90_000_000, 100_000_000, 2**62]),
                context_tokens=self.chance.choice([4_096, 131_072]),
                capacity=self.chance.choice([0, 1, 2, 3, 8]),
                visibility=self.chance.choice(["market", "market", "own"]),
            ),
        )
        self.both("set_online", key(number), True)

    def online(self) -> None:
        self.both("set_online", self.some_key(), self.chance.random() < 0.8)

    def estimates(self) -> None:
        chance = self.chance
        self.both(
            "set_estimates",
            self.some_key(),
            quality=chance.choice([0.0, 1.0, chance.random()]),
            latency_ms=chance.choice([0.0, 5e4, chance.random() * 3_000]),
            availability=chance.choice([0.0, 1.0, chance.random()]),
        )

    def tick(self) -> None:
        self.both("tick", self.now_ms + self.chance.choice([0, 0, -5_000]))

    def report(self) -> None:
        self.both("report", key(self.chance.randrange(12)), self.chance.random() < 0.3, self.now_ms)

    def remove(self) -> None:
        self.both("remove", self.some_key())

    def references(self) -> None:
        self.both(
            "set_references",
            self.chance.choice(["small", "large"]),
            price_reference=self.chance.choice([5e6, 1e8]),
            latency_reference_ms=self.chance.choice([200.0, 2_000.0]),
        )

    def end(self) -> None:
        if self.busy:
            group, done = self.busy.pop(self.chance.randrange(len(self.busy)))
            if self.chance.random() < 0.9:
                self.both("report", group, self.chance.random() < 0.7, self.now_ms)
            self.both("release", done)

    def pick(self) -> None:
        chance = self.chance
        wishes = request(
            model=chance.choice(["small", "small", "large", "none"]),
            network=chance.choice([BUYER, SELLER]),
            scope=chance.choice(["market", "market", "own"]),
            context_tokens=chance.choice([0, 100, 8_192]),
            work_tokens=chance.choice([0, 1, 150, 150, 3_000, 100_000, 2**63 - 1]),
            price_microcents_max=chance.choice([None, None, 0, 90_000_000]),
            only=self.some_keys(),
            ignore=self.some_keys(),
            tried=self.some_keys(),
            now_ms=self.now_ms,
            seed=chance.getrandbits(64),
        )
        theirs = self.theirs.pick(**wishes)
        ours = self.ours.pick(**wishes)
        assert (ours.key, ours.explored, ours.gates) == (theirs.key, theirs.explored, theirs.gates)
        assert ours.feasible == len(theirs.ranking)
        assert ours.propensity == pytest.approx(theirs.propensity)
        listed = [bytes.fromhex(candidate["key"]) for candidate in candidates(ours)]
        assert listed[:16] == theirs.ranking[:16]
        if ours.key is not None:
            assert ours.group is not None
            self.busy.append((ours.group, ours.key))
            self.picked += 1
            assert [c["chosen"] for c in candidates(ours)].count(True) == 1


class TestAgainstTheDefinition:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"band_width": 0.1, "turn_times_max": 1},
            {"band_width": 0.3, "weights": (4, 0, 3, 1, 2)},
            {"weights": (0, 0, 0, 0, 1)},
        ],
        ids=["default", "early cap", "other weights", "fairness alone"],
    )
    @pytest.mark.parametrize("seed", range(3))
    def test_same_winner_card_and_counts_over_thousands_of_events(
        self, seed: int, settings: dict[str, Any]
    ) -> None:
        events = Events(seed, **settings)
        for _ in range(2_500):
            events.step()
        assert events.picked > 300

    def test_replay_gives_the_same_bytes(self) -> None:
        cards: list[list[bytes]] = [[], []]
        for run in cards:
            router = router_of(*(offer(n) for n in range(9)), explore_ppm=200_000)
            for seed in range(300):
                decision = router.pick(**request(seed=seed, now_ms=seed))
                run.append(decision.card())
                assert decision.key is not None
                router.release(decision.key)
        assert cards[0] == cards[1]
