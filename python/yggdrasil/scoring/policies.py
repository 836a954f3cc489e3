"""Ways to choose a provider: ours, as the server runs it, and the common ones to compare it with."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Protocol

from yggdrasil._core import Quality, Router
from yggdrasil.scoring import constants
from yggdrasil.scoring.world import SimulatedProvider, SimulatedRequest

MODEL: Final = "chat/simulated"
_BUYER: Final = b"the requesters' "
_TICK_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy learns of an attempt."""

    provider: SimulatedProvider
    ok: bool
    first_ms: float
    tokens_per_second: float
    quality: float
    second: float


class Policy(Protocol):
    """Chooses among `free`: providers that can be reached, have a slot, and were not tried for this
    request."""

    name: str

    def join(self, provider: SimulatedProvider, second: float) -> None:
        """The provider can be reached from now on (again)."""

    def leave(self, provider: SimulatedProvider, second: float) -> None:
        """It cannot be reached any more."""

    def pick(
        self,
        request: SimulatedRequest,
        free: Sequence[SimulatedProvider],
        tried: Sequence[SimulatedProvider],
        second: float,
    ) -> SimulatedProvider | None:
        """Takes a slot of the one returned. None: nobody, for now."""

    def release(self, provider: SimulatedProvider) -> None:
        """The slot is free again."""

    def observe(self, seen: Seen) -> None:
        """How an attempt ended."""


class Scored:
    """Ours: `Router` and `Quality`, told what the server tells them, with the server's constants but for
    those in `router` and `quality`."""

    def __init__(
        self,
        seed: int = 0,
        name: str = "yggdrasil",
        *,
        router: Mapping[str, Any] = MappingProxyType({}),
        quality: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.name = name
        given: dict[str, Any] = {**constants.ROUTER, "newcomer_ppm": constants.NEWCOMER_PPM, **router}
        self._router = Router(**given)
        self._quality = Quality(**{**constants.QUALITY, **quality})
        self._random = random.Random(f"{seed}/ours")  # noqa: S311  a simulation, not a secret
        self._known: dict[bytes, SimulatedProvider] = {}
        self._ticked_ms = 0

    def join(self, provider: SimulatedProvider, second: float) -> None:
        key = key_of(provider)
        if key not in self._known:
            self._known[key] = provider
            self._router.upsert(
                key=key,
                owner=key,
                group=key,
                model=MODEL,
                price_microcents=provider.price_microcents,
                context_tokens=1_000_000,
                capacity=provider.slots,
            )
            # What the test at the registration measured.
            self._quality.observe(key, "latency_ms", provider.first_ms, at_ms=_ms(second))
            self._estimate(key, second)
        self._router.set_online(key, True)

    def leave(self, provider: SimulatedProvider, second: float) -> None:  # noqa: ARG002
        self._router.set_online(key_of(provider), False)

    def pick(
        self,
        request: SimulatedRequest,
        free: Sequence[SimulatedProvider],  # noqa: ARG002  the router knows by itself
        tried: Sequence[SimulatedProvider],
        second: float,
    ) -> SimulatedProvider | None:
        now_ms = _ms(second)
        if now_ms - self._ticked_ms >= _TICK_MS:
            self._router.tick(now_ms)
            self._ticked_ms = now_ms
        decision = self._router.pick(
            model=MODEL,
            network=_BUYER,
            scope="market",
            context_tokens=request.tokens,
            work_tokens=request.tokens,
            tried=[key_of(provider) for provider in tried],
            now_ms=now_ms,
            seed=self._random.getrandbits(63),
        )
        return None if decision.key is None else self._known[decision.key]

    def release(self, provider: SimulatedProvider) -> None:
        self._router.release(key_of(provider))

    def observe(self, seen: Seen) -> None:
        key, at_ms = key_of(seen.provider), _ms(seen.second)
        self._quality.observe(key, "success", 1.0 if seen.ok else 0.0, at_ms=at_ms)
        if seen.ok:
            self._quality.observe(key, "quality", seen.quality, at_ms=at_ms)
            self._quality.observe(key, "latency_ms", seen.first_ms, at_ms=at_ms)
            self._quality.observe(key, "throughput", seen.tokens_per_second, at_ms=at_ms)
        self._router.report(key, seen.ok, at_ms)
        self._estimate(key, seen.second)

    def _estimate(self, key: bytes, second: float) -> None:
        at_ms = _ms(second)
        self._router.set_estimates(
            key,
            quality=self._quality.estimate(key, "quality", at_ms=at_ms).lower_bound,
            latency_ms=self._quality.estimate(key, "latency_ms", at_ms=at_ms).mean,
            availability=self._quality.estimate(key, "success", at_ms=at_ms).mean,
        )


class _Memoryless(ABC):
    """Knows the load it has given, and nothing of what happened."""

    name = ""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(f"{seed}/{self.name}")  # noqa: S311  a simulation, not a secret
        self._load: dict[str, int] = {}

    def join(self, provider: SimulatedProvider, second: float) -> None:  # noqa: B027  nothing is remembered
        ...

    def leave(self, provider: SimulatedProvider, second: float) -> None:  # noqa: B027
        ...

    def pick(
        self,
        request: SimulatedRequest,  # noqa: ARG002
        free: Sequence[SimulatedProvider],
        tried: Sequence[SimulatedProvider],  # noqa: ARG002
        second: float,  # noqa: ARG002
    ) -> SimulatedProvider | None:
        if not free:
            return None
        chosen = self._choose(free)
        self._load[chosen.name] = self._load.get(chosen.name, 0) + 1
        return chosen

    def release(self, provider: SimulatedProvider) -> None:
        self._load[provider.name] -= 1

    def observe(self, seen: Seen) -> None:  # noqa: B027
        ...

    def _busy(self, provider: SimulatedProvider) -> float:
        return self._load.get(provider.name, 0) / provider.slots

    @abstractmethod
    def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
        """One of `free`, which is not empty."""


class TwoChoices(_Memoryless):
    """The less loaded of two drawn evenly (Mitzenmacher 2001)."""

    name = "two choices"

    def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
        return min(self._random.choice(free), self._random.choice(free), key=self._busy)


class WeightedRandom(_Memoryless):
    """Drawn with the weight of 1 / price², as some marketplaces do."""

    name = "weighted random"

    def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
        weights = [1.0 / max(provider.price_microcents, 1) ** 2 for provider in free]
        return self._random.choices(free, weights)[0]


class Cheapest(_Memoryless):
    """The lowest price; of equals, the least loaded."""

    name = "cheapest"

    def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
        return min(free, key=lambda provider: (provider.price_microcents, self._busy(provider)))


class RoundRobin(_Memoryless):
    """One after the other, in the order of their names."""

    name = "round robin"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._last = ""

    def _choose(self, free: Sequence[SimulatedProvider]) -> SimulatedProvider:
        ordered = sorted(free, key=lambda provider: provider.name)
        chosen = next((provider for provider in ordered if provider.name > self._last), ordered[0])
        self._last = chosen.name
        return chosen


PEERS: Final = (TwoChoices, WeightedRandom, Cheapest, RoundRobin)
"""What ours is compared with."""


def key_of(provider: SimulatedProvider) -> bytes:
    """16 bytes that stand for a provider in the router."""
    return blake2b(provider.name.encode(), digest_size=16).digest()


def _ms(second: float) -> int:
    return int(second * 1000)
