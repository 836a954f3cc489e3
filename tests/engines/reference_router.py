"""The router once more, by its definition and without regard to speed: the oracle of the router tests.

Work is the list of all that was ever given, weighed by age at the present epoch; scores are computed when
asked for, steps by logarithm, the order by sorting everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MASK = 2**64 - 1


@dataclass
class Offer:
    key: bytes
    owner: bytes
    group: bytes
    model: str
    price_microcents: int
    context_tokens: int
    capacity: int
    visibility: str
    online: bool = False
    in_flight: int = 0
    quality: float = 0.5
    latency_ms: float | None = None
    availability: float = 0.5
    given: list[tuple[int, int]] = field(default_factory=list)  # (epoch, tokens)
    turn: int = 0
    served: int = 0


@dataclass
class Breaker:
    failures: int = 0
    length_ms: int = 0
    until_ms: int = 0
    probe: bytes | None = None
    probe_until_ms: int = 0


@dataclass
class Outcome:
    key: bytes | None
    explored: bool
    propensity: float | None
    gates: dict[str, int]
    ranking: list[bytes]


def chance(seed: int) -> tuple[int, int]:
    """Two numbers of 64 bits from SplitMix64."""
    numbers = []
    for step in (1, 2):
        z = (seed + step * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        numbers.append(z ^ (z >> 31))
    return numbers[0], numbers[1]


class ReferenceRouter:
    def __init__(
        self,
        *,
        explore_ppm: int,
        breaker_failures: int,
        breaker_open_ms: int,
        breaker_open_ms_max: int,
        band_width: float = 0.05,
        turn_times_max: int = 8,
        weights: tuple[float, float, float, float, float] = (0.30, 0.25, 0.20, 0.15, 0.10),
    ) -> None:
        self.band_width = band_width
        self.turn_times_max = turn_times_max
        self.weights = [weight / sum(weights) for weight in weights]
        self.explore_ppm = explore_ppm
        self.breaker_failures = breaker_failures
        self.breaker_open_ms = breaker_open_ms
        self.breaker_open_ms_max = breaker_open_ms_max
        self.offers: dict[bytes, Offer] = {}
        self.references: dict[str, tuple[float, float]] = {}
        # By model, and for requests at home by network as well: what others do at home tells nobody.
        self.turns: dict[tuple[str, bytes | None], int] = {}
        self.means: dict[tuple[str, bytes | None], int] = {}
        self.breakers: dict[bytes, Breaker] = {}
        self.epoch_ms = 0
        self.served = 0

    def upsert(self, **facts: object) -> None:
        new = Offer(**facts)  # type: ignore[arg-type]
        old = self.offers.pop(new.key, None)
        if old is not None:
            for name in (
                "online",
                "in_flight",
                "quality",
                "latency_ms",
                "availability",
                "given",
                "turn",
                "served",
            ):
                setattr(new, name, getattr(old, name))
        if old is not None and not any(offer.model == old.model for offer in self.offers.values()):
            self.forget(old.model)
        others = [offer for offer in self.offers.values() if offer.model == new.model]
        if new.visibility == "market" and not any(offer.visibility == "market" for offer in others):
            self.turns[new.model, None] = max(self.turns.get((new.model, None), 0), new.turn)
        self.offers[new.key] = new
        if old is not None:
            self.forget_owner(old.owner)

    def remove(self, key: bytes) -> bool:
        old = self.offers.pop(key, None)
        if old is not None and not any(offer.model == old.model for offer in self.offers.values()):
            self.forget(old.model)
        if old is not None:
            self.forget_owner(old.owner)
        return old is not None

    def forget_owner(self, owner: bytes) -> None:
        if not any(offer.owner == owner for offer in self.offers.values()):
            for queues in (self.turns, self.means):
                for queue in [queue for queue in queues if queue[1] == owner]:
                    del queues[queue]

    def forget(self, model: str) -> None:
        """A model without offers keeps its virtual time only if it has references of its own."""
        if model not in self.references:
            self.turns.pop((model, None), None)
            self.means.pop((model, None), None)

    def set_online(self, key: bytes, online: bool) -> bool:
        if key in self.offers:
            self.offers[key].online = online
        return key in self.offers

    def set_estimates(self, key: bytes, *, quality: float, latency_ms: float, availability: float) -> bool:
        if key in self.offers:
            offer = self.offers[key]
            offer.quality, offer.latency_ms, offer.availability = quality, latency_ms, availability
        return key in self.offers

    def set_references(self, model: str, *, price_reference: float, latency_reference_ms: float) -> None:
        self.references[model] = (price_reference, latency_reference_ms)

    def tick(self, now_ms: int) -> bool:
        self.epoch_ms = max(self.epoch_ms, now_ms)
        return True

    def release(self, key: bytes) -> bool:
        offer = self.offers.get(key)
        if offer is None or offer.in_flight == 0:
            return False
        offer.in_flight -= 1
        breaker = self.breakers.get(offer.group)
        if breaker is not None and breaker.probe == key:
            breaker.probe = None
        return True

    def report(self, group: bytes, ok: bool, now_ms: int) -> None:
        breaker = self.breakers.setdefault(group, Breaker())
        if breaker.length_ms and now_ms < breaker.until_ms:
            return
        if ok:
            del self.breakers[group]
            return
        breaker.failures += 1
        if breaker.length_ms:
            breaker.length_ms = min(2 * breaker.length_ms, self.breaker_open_ms_max)
        elif breaker.failures >= self.breaker_failures:
            breaker.length_ms = self.breaker_open_ms
        else:
            return
        breaker.until_ms, breaker.probe = now_ms + breaker.length_ms, None

    def admits(self, group: bytes, now_ms: int) -> bool:
        breaker = self.breakers.get(group)
        if breaker is None or not breaker.length_ms:
            return True
        return now_ms >= breaker.until_ms and (breaker.probe is None or now_ms >= breaker.probe_until_ms)

    def score(self, offer: Offer) -> float:
        price_reference, latency_reference_ms = self.references.get(offer.model, (100_000_000.0, 1_000.0))
        latency_ms = latency_reference_ms if offer.latency_ms is None else offer.latency_ms
        work = math.fsum(
            tokens * math.exp2((epoch - self.epoch_ms) / 600_000) for epoch, tokens in offer.given
        )
        parts = (
            price_reference / (price_reference + offer.price_microcents),
            offer.quality,
            latency_reference_ms / (latency_reference_ms + latency_ms),
            offer.availability,
            100_000 / (100_000 + work),
        )
        return math.fsum(weight * part for weight, part in zip(self.weights, parts, strict=True))

    def step(self, offer: Offer) -> int:
        """A third of a band's width each, 0 for a score of 1; all below a millionth are alike."""
        return math.ceil(-math.log(max(self.score(offer), 1e-6)) / math.log1p(self.band_width / 3))

    def pick(
        self,
        *,
        model: str,
        network: bytes,
        scope: str,
        context_tokens: int,
        work_tokens: int,
        price_microcents_max: int | None,
        only: list[bytes],
        ignore: list[bytes],
        tried: list[bytes],
        now_ms: int,
        seed: int,
    ) -> Outcome:
        names = "model owner only ignore tried context max_price online breaker capacity"
        gates = dict.fromkeys(names.split(), 0)
        passed = []
        for offer in self.offers.values():
            own = offer.owner == network
            if own if scope == "own" else not own and offer.visibility == "market":
                fails = {
                    "model": offer.model != model,
                    "only": bool(only) and offer.key not in only,
                    "ignore": offer.key in ignore,
                    "tried": offer.key in tried,
                    "context": offer.context_tokens < context_tokens,
                    "max_price": price_microcents_max is not None
                    and offer.price_microcents > price_microcents_max,
                    "online": not offer.online,
                    "breaker": not self.admits(offer.group, now_ms),
                    "capacity": offer.in_flight >= offer.capacity,
                }
                failed = next((name for name, fail in fails.items() if fail), None)
                if failed is None:
                    passed.append(offer)
                else:
                    gates[failed] += 1
            elif own and offer.model == model:
                gates["owner"] += 1
        if not passed:
            return Outcome(None, False, None, gates, [])
        queue = (model, network if scope == "own" else None)
        clock = self.turns.get(queue, 0)
        ranked = sorted(passed, key=lambda o: (self.step(o), o.turn, o.served, o.key))
        floor = self.step(ranked[0]) + 3
        band = [o for o in ranked if self.step(o) <= floor]
        best = min(band, key=lambda o: (o.turn, o.served, o.key))
        first, second = chance(seed)
        explored = (first * 1_000_000) >> 64 < self.explore_ppm
        by_facts = sorted(passed, key=lambda o: (o.context_tokens, o.price_microcents, o.key))
        chosen = by_facts[(second * len(by_facts)) >> 64] if explored else best
        explore = self.explore_ppm / 1_000_000
        propensity = explore / len(passed) + (1 - explore if chosen is best else 0)
        start = max(chosen.turn, clock)
        self.turns[queue] = max(clock, start)
        work = min(max(work_tokens, 1), 2**24) << 16
        mean = self.means.get(queue) or work
        counted = min(work, mean * self.turn_times_max)
        self.means[queue] = mean - mean // 64 + counted // 64
        chosen.turn = start + max(counted // chosen.capacity, 1)
        self.served += 1
        chosen.served = self.served
        chosen.in_flight += 1
        chosen.given.append((self.epoch_ms, work_tokens))
        breaker = self.breakers.get(chosen.group)
        if breaker is not None and breaker.length_ms:
            breaker.probe, breaker.probe_until_ms = chosen.key, now_ms + breaker.length_ms
        return Outcome(chosen.key, explored, propensity, gates, [o.key for o in ranked])
