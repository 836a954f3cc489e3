"""`simulate(scenario, policy, seed)`: a closed loop of arrivals, choices, service times, failures and prices.

A simulation of events: a request arrives, is given to a provider with a free slot or waits for one, fails
over to another provider as long as it may, and holds its slot until it is done. What happens to it is drawn
from a stream of its own, by request, provider and attempt, so that two policies that send the same request to
the same provider see the same (common random numbers). Time is simulated: nothing sleeps.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal

from yggdrasil._core import score
from yggdrasil.scoring.policies import Policy, Seen
from yggdrasil.scoring.report import Report, Totals
from yggdrasil.scoring.world import Scenario, SimulatedProvider, SimulatedRequest

TOLERANCE: Final = 1.25
"""A claim counts up to what was seen and a quarter."""
MARKET_PRICE_MICROCENTS: Final = 100_000_000.0
MARKET_FIRST_MS: Final = 1_000.0

Kind = Literal["arrive", "end", "presence", "give up"]


@dataclass(slots=True)
class _Running:
    """A request on its way."""

    request: SimulatedRequest
    tried: list[SimulatedProvider] = field(default_factory=list)
    over: bool = False


@dataclass(frozen=True, slots=True)
class _Ending:
    """Of an attempt; `first_ms` is None if it fails."""

    running: _Running
    provider: SimulatedProvider
    first_ms: float | None
    rate: float


class _Simulation:
    def __init__(self, scenario: Scenario, policy: Policy, seed: int) -> None:
        self._scenario = scenario
        self._policy = policy
        self._seed = seed
        self._events: list[tuple[float, int, Kind, object]] = []
        self._order = count()
        self._present: dict[str, SimulatedProvider] = {}
        self._load: dict[str, int] = {provider.name: 0 for provider in scenario.providers}
        self._waiting: deque[_Running] = deque()
        self.totals = Totals(scenario)

    def run(self) -> Report:
        for provider in self._scenario.providers:
            for moment in {
                provider.joins,
                provider.leaves,
                *(moment for span in provider.outages for moment in (span.start, span.end)),
            }:
                if moment < math.inf:
                    self._at(moment, "presence", provider)
        for request in self._scenario.requests(self._seed):
            self._at(request.second, "arrive", _Running(request))
        while self._events:
            second, _, kind, what = heapq.heappop(self._events)
            if kind == "presence" and isinstance(what, SimulatedProvider):
                self._presence(what, second)
            elif isinstance(what, _Ending):
                self._end(what, second)
            elif isinstance(what, _Running):
                if kind == "arrive":
                    self._arrive(what, second)
                else:
                    self._give_up(what, second)
        return self.totals.report(self._policy.name, self._seed)

    def _at(self, second: float, kind: Kind, what: object) -> None:
        # What happens at the same moment happens in the order in which it was planned.
        heapq.heappush(self._events, (second, next(self._order), kind, what))

    def _presence(self, provider: SimulatedProvider, second: float) -> None:
        if provider.present(second):
            if provider.name not in self._present:
                self._present[provider.name] = provider
                self._policy.join(provider, second)
        elif self._present.pop(provider.name, None) is not None:
            self._policy.leave(provider, second)
        self._wake(second)

    def _arrive(self, running: _Running, second: float) -> None:
        if not self._start(running, second):
            self._waiting.append(running)
            self._at(second + self._scenario.patience_seconds, "give up", running)

    def _give_up(self, running: _Running, second: float) -> None:
        if running in self._waiting:
            self._waiting.remove(running)
            self._lose(running, second)

    def _lose(self, running: _Running, second: float) -> None:
        running.over = True
        self.totals.lost(running.request, second)

    def _wake(self, second: float) -> None:
        """First come, first served."""
        while self._waiting and self._start(self._waiting[0], second):
            self._waiting.popleft()

    def _free(self, tried: list[SimulatedProvider]) -> list[SimulatedProvider]:
        return [
            provider
            for provider in self._present.values()
            if self._load[provider.name] < provider.slots and provider not in tried
        ]

    def _start(self, running: _Running, second: float) -> bool:
        free = self._free(running.tried)
        chosen = self._policy.pick(running.request, free, running.tried, second)
        if chosen is None:
            return False
        if chosen not in free:
            raise AssertionError(f"{self._policy.name} picked {chosen.name}, which has no free slot")
        self._load[chosen.name] += 1
        running.tried.append(chosen)
        request = running.request
        draw = random.Random(f"{self._seed}/{request.number}/{chosen.name}")  # noqa: S311
        fails = draw.random() < chosen.failing or any(second in span for span in chosen.faults)
        first_ms = chosen.first_ms * math.exp(draw.gauss(0, chosen.spread))
        rate = chosen.tokens_per_second * math.exp(draw.gauss(0, chosen.spread / 2))
        self.totals.picked(request, chosen, second, self._regret(chosen, free))
        if fails:
            self._at(second + chosen.failure_seconds, "end", _Ending(running, chosen, None, 0.0))
        else:
            self._at(
                second + first_ms / 1000 + request.output_tokens / rate,
                "end",
                _Ending(running, chosen, first_ms, rate),
            )
        return True

    def _end(self, ending: _Ending, second: float) -> None:
        running, provider, first_ms = ending.running, ending.provider, ending.first_ms
        self._load[provider.name] -= 1
        self._policy.release(provider)
        # A provider that went away while it worked did not finish.
        ok = first_ms is not None and provider.name in self._present
        self._policy.observe(Seen(provider, ok, first_ms or 0.0, ending.rate, self._judged(provider), second))
        request = running.request
        if ok:
            paid = round(request.tokens * min(max(provider.claims, 0.0), TOLERANCE))
            self.totals.done(request, provider, second, paid * provider.price_microcents / 1e6)
        elif len(running.tried) >= self._scenario.attempts_max:
            self._lose(running, second)
        elif not self._start(running, second):
            self._waiting.appendleft(running)
            self._at(second + self._scenario.patience_seconds, "give up", running)
        self._wake(second)

    def _judged(self, provider: SimulatedProvider) -> float:
        """A claim beyond the tolerance is worth nothing."""
        return 0.0 if provider.claims > TOLERANCE else provider.quality

    def _regret(self, chosen: SimulatedProvider, free: list[SimulatedProvider]) -> float:
        """How far the choice is, in points of the score, from the best by who they truly are."""
        return max(self._worth(provider) for provider in free) - self._worth(chosen)

    def _worth(self, provider: SimulatedProvider) -> float:
        known = self.totals.worth.get(provider.name)
        if known is None:
            known = self.totals.worth[provider.name] = score(
                float(provider.price_microcents),
                self._judged(provider),
                provider.first_ms,
                1.0 - provider.failing,
                0.0,
                price_reference=MARKET_PRICE_MICROCENTS,
                latency_reference_ms=MARKET_FIRST_MS,
                work_reference=1.0,
            )
        return known


def simulate(scenario: Scenario, policy: Policy, seed: int = 0) -> Report:
    """Run `scenario` with `policy`; the same arguments give the same report, to the last bit.

    A policy is used once: it keeps what it has learnt.
    """
    return _Simulation(scenario, policy, seed).run()
