"""What a simulation found."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yggdrasil.scoring.world import Scenario, SimulatedProvider, SimulatedRequest


@dataclass(frozen=True, slots=True)
class Report:
    """Of all requests of a run.

    - ``requests``, ``lost`` (no provider in time, or every attempt failed), ``attempts``.
    - ``cost_microcents``: paid for a request that was answered, on average; ``cost_per_million``: paid for
      1,000,000 tokens that were really processed, so exaggeration shows.
    - ``latency_p50_seconds``, ``latency_p95_seconds``: from arrival to the last token, waiting and failed
      attempts included; of answered requests (NaN without one).
    - ``quality``: mean worth of the answers.
    - ``regret``: points of the score (0 to 1) that a pick lay below the best free provider, on average.
    - ``utilisation``: share of all slot-seconds that were busy.
    - ``jain``: Jain's index (Jain, Chiu and Hawe 1984), (Σx)² / (n·Σx²), of requests by slot-second of
      presence, among the providers of a kind; the lowest of all kinds with two members or more. 1 is even.
    - ``longest_wait``: the most picks of its kind that a member had to wait for its turn, in multiples of the
      number of members; of kinds whose members are always there.
    - ``newcomer_picks``: picks of all until the last provider that joined late got its first (NaN: none
      joined late, or it got none).
    """

    scenario: str
    policy: str
    seed: int
    requests: int
    lost: int
    attempts: int
    cost_microcents: float
    cost_per_million: float
    latency_p50_seconds: float
    latency_p95_seconds: float
    quality: float
    regret: float
    utilisation: float
    jain: float
    longest_wait: float
    newcomer_picks: float

    def _repr_html_(self) -> str:
        return table([self])


def table(reports: list[Report]) -> str:
    """Reports as an HTML table, one a row."""
    names = [field.name for field in fields(Report)]
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(getattr(report, name)))}</td>" for name in names) + "</tr>"
        for report in reports
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


class Totals:
    """Adds up a run."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.worth: dict[str, float] = {}
        self._requests: dict[int, float] = {}
        self._latencies: list[float] = []
        self._lost = self._attempts = self._tokens = 0
        self._cost = self._quality = self._regret = self._busy = 0.0
        self._given: dict[str, int] = defaultdict(int)
        self._begun: dict[tuple[int, str], float] = {}
        self._turn: dict[str, int] = defaultdict(int)
        self._last_turn: dict[str, int] = {}
        self._longest: dict[str, float] = defaultdict(float)
        self._members: dict[str, list[SimulatedProvider]] = defaultdict(list)
        for provider in scenario.providers:
            if provider.kind:
                self._members[provider.kind].append(provider)
        self._late = [provider for provider in scenario.providers if provider.joins > 0]
        self._picks_since: dict[str, int] = {}
        self._first_after: dict[str, int] = {}

    def picked(
        self, request: SimulatedRequest, provider: SimulatedProvider, second: float, regret: float
    ) -> None:
        """A request was given to a provider."""
        self._requests.setdefault(request.number, request.second)
        self._attempts += 1
        self._regret += regret
        self._given[provider.name] += 1
        self._begun[request.number, provider.name] = second
        kind = provider.kind
        self._turn[kind] += 1
        waited = self._turn[kind] - self._last_turn.get(provider.name, 0)
        self._longest[kind] = max(self._longest[kind], waited / max(len(self._members[kind]), 1))
        self._last_turn[provider.name] = self._turn[kind]
        for late in self._late:
            if late.joins <= second and late.name not in self._first_after:
                self._picks_since[late.name] = self._picks_since.get(late.name, 0) + 1
                if late is provider:
                    self._first_after[late.name] = self._picks_since[late.name]

    def done(
        self, request: SimulatedRequest, provider: SimulatedProvider, second: float, cost: float
    ) -> None:
        """A request was answered."""
        self._latencies.append(second - request.second)
        self._busy += second - self._begun[request.number, provider.name]
        self._tokens += request.tokens
        self._cost += cost
        self._quality += provider.quality

    def lost(self, request: SimulatedRequest, second: float) -> None:  # noqa: ARG002  when it was is not told
        """A request got no answer."""
        self._requests.setdefault(request.number, request.second)
        self._lost += 1

    def report(self, policy: str, seed: int) -> Report:
        """The sums of the run."""
        answered = len(self._latencies)
        self._latencies.sort()
        return Report(
            scenario=self._scenario.name,
            policy=policy,
            seed=seed,
            requests=len(self._requests),
            lost=self._lost,
            attempts=self._attempts,
            cost_microcents=_part(self._cost, answered),
            cost_per_million=_part(self._cost * 1e6, self._tokens),
            latency_p50_seconds=self._percentile(0.50),
            latency_p95_seconds=self._percentile(0.95),
            quality=_part(self._quality, answered),
            regret=_part(self._regret, self._attempts),
            utilisation=_part(self._busy, sum(p.slots * self._there(p) for p in self._scenario.providers)),
            jain=min((self._jain(m) for m in self._members.values() if len(m) > 1), default=math.nan),
            longest_wait=self._longest_wait(),
            newcomer_picks=self._newcomer(),
        )

    def _percentile(self, share: float) -> float:
        """Nearest rank."""
        if not self._latencies:
            return math.nan
        return self._latencies[max(math.ceil(share * len(self._latencies)) - 1, 0)]

    def _there(self, provider: SimulatedProvider) -> float:
        """Seconds in which it could be reached."""
        end = min(provider.leaves, self._scenario.seconds)
        away = sum(
            max(min(span.end, end) - max(span.start, provider.joins), 0.0) for span in provider.outages
        )
        return max(end - provider.joins - away, 0.0)

    def _jain(self, members: list[SimulatedProvider]) -> float:
        there = [(provider, provider.slots * self._there(provider)) for provider in members]
        shares = [self._given[provider.name] / time for provider, time in there if time > 0]
        squares = sum(share * share for share in shares)
        return sum(shares) ** 2 / (len(shares) * squares) if squares else math.nan

    def _longest_wait(self) -> float:
        waits = []
        for kind, members in self._members.items():
            if len(members) > 1 and all(
                self._there(provider) == self._scenario.seconds for provider in members
            ):
                # Whoever still waits at the end has waited, too.
                open_ = [self._turn[kind] - self._last_turn.get(p.name, 0) for p in members]
                waits.append(max(self._longest[kind], max(open_) / len(members)))
        return max(waits, default=math.nan)

    def _newcomer(self) -> float:
        if not self._late or any(late.name not in self._first_after for late in self._late):
            return math.nan
        return float(max(self._first_after.values()))


def _part(amount: float, of: float) -> float:
    return amount / of if of else math.nan
