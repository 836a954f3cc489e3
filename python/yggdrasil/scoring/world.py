"""What a simulation is made of: providers, requests, and the scenario that brings them together."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from yggdrasil.errors import InvalidInput

PROVIDERS_MAX = 100_000
SECONDS_MAX = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` (inclusive) to `end` (exclusive), seconds since the scenario began."""

    start: float
    end: float

    def __contains__(self, second: float) -> bool:
        return self.start <= second < self.end


@dataclass(frozen=True, slots=True)
class SimulatedProvider:
    """One provider as it truly is. Policies see its price, its slots, and what happened to requests.

    `price_microcents` is per 1,000,000 tokens, `slots` are requests at a time, `tokens_per_second` of each
    slot. `first_ms` is the median time to the first token; it varies by a factor e^N(0, `spread`).
    `failing` is the share of requests that fail before their first token, which is seen after
    `failure_seconds` (some refuse at once, others fall silent); `quality` what an answer is worth;
    `claims` the factor by which it overstates its tokens. It exists from `joins` until `leaves`; in `outages`
    it is unreachable, in `faults` every request to it fails. Providers of one `kind` are equals: fairness is
    measured among them, unless the kind is empty.
    """

    name: str
    kind: str
    price_microcents: int
    slots: int = 4
    tokens_per_second: float = 60.0
    first_ms: float = 400.0
    spread: float = 0.25
    failing: float = 0.0
    failure_seconds: float = 5.0
    quality: float = 1.0
    claims: float = 1.0
    joins: float = 0.0
    leaves: float = math.inf
    outages: tuple[Span, ...] = ()
    faults: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        _least("price_microcents", self.price_microcents, 0)
        _least("slots", self.slots, 1)
        _above_zero("tokens_per_second", self.tokens_per_second)
        _above_zero("first_ms", self.first_ms)
        _least("spread", self.spread, 0.0)
        _share("failing", self.failing)
        _least("failure_seconds", self.failure_seconds, 0.0)
        _share("quality", self.quality)
        _least("claims", self.claims, 0.0)

    def present(self, second: float) -> bool:
        """Whether it can be reached."""
        return self.joins <= second < self.leaves and not any(second in span for span in self.outages)


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """Arrives at `second`; takes `prompt_tokens` and writes `output_tokens`."""

    number: int
    second: float
    prompt_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """Of prompt and output together, which it is charged as work."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Scenario:
    """Providers, and a Poisson stream of requests of `rate` a second, `bursts` times that within them.

    Prompts and outputs are lognormal with the medians given. `patience_seconds` is how long a request waits
    for a slot; `attempts_max` how many providers it tries.
    """

    name: str
    providers: Sequence[SimulatedProvider]
    seconds: float
    rate: float
    bursts: tuple[tuple[Span, float], ...] = ()
    prompt_tokens_median: float = 300.0
    output_tokens_median: float = 200.0
    sigma: float = 0.6
    patience_seconds: float = 30.0
    attempts_max: int = 4
    notes: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.providers) <= PROVIDERS_MAX:
            raise InvalidInput(f"providers: must be 1 to {PROVIDERS_MAX}", field="providers")
        if len({provider.name for provider in self.providers}) != len(self.providers):
            raise InvalidInput("providers: names must differ", field="providers")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise InvalidInput(f"seconds: must be above 0 and at most {SECONDS_MAX:.0f}", field="seconds")
        _above_zero("rate", self.rate)
        _above_zero("prompt_tokens_median", self.prompt_tokens_median)
        _above_zero("output_tokens_median", self.output_tokens_median)
        _least("sigma", self.sigma, 0.0)
        _least("patience_seconds", self.patience_seconds, 0.0)
        _least("attempts_max", self.attempts_max, 1)

    def requests(self, seed: int) -> Iterator[SimulatedRequest]:
        """The stream of that seed, in the order of time: the same for every policy."""
        arrivals, sizes = random.Random(f"{seed}/arrivals"), random.Random(f"{seed}/sizes")  # noqa: S311
        most = self.rate * max([1.0, *(factor for _, factor in self.bursts)])
        second, number = 0.0, 0
        while True:
            # Thinning (Lewis and Shedler 1979): a stream of the highest rate, of which a part is kept.
            second += arrivals.expovariate(most)
            if second >= self.seconds:
                return
            if arrivals.random() * most >= self._rate_at(second):
                continue
            yield SimulatedRequest(
                number,
                second,
                max(round(self.prompt_tokens_median * math.exp(sizes.gauss(0, self.sigma))), 1),
                max(round(self.output_tokens_median * math.exp(sizes.gauss(0, self.sigma))), 1),
            )
            number += 1

    def _rate_at(self, second: float) -> float:
        return self.rate * math.prod(factor for span, factor in self.bursts if second in span)


def _least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise InvalidInput(f"{name}: must be finite and at least {least:g}", field=name)


def _above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"{name}: must be finite and above 0", field=name)


def _share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidInput(f"{name}: must be from 0 to 1", field=name)
