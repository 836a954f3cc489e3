"""Offline evaluation: what another way to choose would have brought, told from the log of decisions.

Estimators, of the value of a target policy π from decisions of a logging policy with known propensities p:

- ``ips``, inverse propensity: mean of ``w·r`` with ``w = π(chosen) / p`` (Horvitz and Thompson 1952).
  Unbiased; noisy where p is small.
- ``snips``, self-normalised: ``Σ w·r / Σ w`` (Swaminathan and Joachims 2015), its interval by the delta
  method. A little biased, mostly much less noisy.
- ``dr``, doubly robust: mean of ``Σ_a π(a)·q(a) + w·(r - q(chosen))`` (Dudík, Langford and Li 2011), with
  ``q`` a ridge regression of the reward on the five parts, fitted on the other half of the log
  (cross-fitting). Right if either the propensities or the regression are.

Intervals are normal: estimate ± z·s/√n. They hold for many decisions; look at `effective_decisions`, (Σw)² /
Σw² (Kish), before believing one. Only the decisions that list everybody who could have been chosen count
(`LoggedDecision.whole`); `coverage` says how many those were.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Literal

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring.constants import WEIGHTS
from yggdrasil.scoring.decisions import PARTS, DecisionLog, LoggedDecision, Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TargetPolicy = Callable[[LoggedDecision], Sequence[float]]
"""The probability of each candidate; they add up to 1."""
Reward = Callable[[Outcome], float]
Method = Literal["ips", "snips", "dr"]
METHODS: Final[tuple[Method, ...]] = ("ips", "snips", "dr")
DECISIONS_MIN: Final = 10
_RIDGE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval."""

    method: Method
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``logged`` is the mean reward as it was; ``estimates`` are those of the target policy; ``decisions``
    counts those that were used, ``coverage`` their share of all with an outcome."""

    logged: float
    estimates: tuple[Estimate, ...]
    decisions: int
    effective_decisions: float
    coverage: float

    def __getitem__(self, method: Method) -> Estimate:
        return next(estimate for estimate in self.estimates if estimate.method == method)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(e.method)}</td><td>{e.value:.6g}</td><td>{e.low:.6g}</td><td>{e.high:.6g}</td></tr>"
            for e in self.estimates
        )
        return (
            "<table><thead><tr><th>method</th><th>value</th><th>low</th><th>high</th></tr></thead>"
            f"<tbody>{rows}</tbody></table><p>logged {self.logged:.6g}; {self.decisions} decisions, worth"
            f" {self.effective_decisions:.1f}; coverage {self.coverage:.1%}</p>"
        )


def weighted(
    price: float = WEIGHTS[0],
    quality: float = WEIGHTS[1],
    latency: float = WEIGHTS[2],
    availability: float = WEIGHTS[3],
    fairness: float = WEIGHTS[4],
) -> TargetPolicy:
    """The policy that takes the best by these weights, the best evenly if there are several. They are scaled
    to add up to 1. InvalidInput for a negative one, or if all are 0."""
    weights = (price, quality, latency, availability, fairness)
    for name, weight in zip(PARTS, weights, strict=True):
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInput(f"{name}: must be finite and at least 0", field=name)
    if not any(weights):
        raise InvalidInput("price: one weight must be above 0", field="price")

    return lambda decision: _best(decision, weights, 0.0)


def what_if(
    *,
    price: float | None = None,
    quality: float | None = None,
    latency: float | None = None,
    availability: float | None = None,
    fairness: float | None = None,
    band_width: float = 0.0,
) -> TargetPolicy:
    """The policy with the weights of the router that decided, but for the parts named: ``what_if(price=0.4)``
    is "what if price weighed 40 %". The others share the rest in their old proportions.

    A card without weights counts as one with `constants.WEIGHTS`. With the router's `band_width` all whose
    score is within it of the best are taken evenly, as turns come to on average; with 0 the best alone. The
    card's parts are as they were when it was made: who gets more work is not scored lower by it.

    Raises InvalidInput for a share outside 0 to 1, shares that add up to more than 1, a negative
    `band_width`, and, when a decision is asked about, if the rest of 1 would have to go to parts of no
    weight.
    """
    given = dict(zip(PARTS, (price, quality, latency, availability, fairness), strict=True))
    named = {name: share for name, share in given.items() if share is not None}
    for name, share in named.items():
        if not 0 <= share <= 1:
            raise InvalidInput(f"{name}: must be from 0 to 1", field=name)
    rest = 1 - sum(named.values())
    first = next(iter(named), "price")
    if rest < -1e-9:
        raise InvalidInput(f"{first}: the shares add up to more than 1", field=first)
    if not (math.isfinite(band_width) and band_width >= 0):
        raise InvalidInput("band_width: must be finite and at least 0", field="band_width")

    def policy(decision: LoggedDecision) -> Sequence[float]:
        old = dict(zip(PARTS, decision.weights or WEIGHTS, strict=True))
        others = sum(weight for name, weight in old.items() if name not in named)
        if rest > 1e-9 and not others:
            rule = "the other parts have no weight, so the shares must add up to 1"
            raise InvalidInput(f"{first}: {rule}", field=first)
        scale = max(rest, 0.0) / others if others else 0.0
        return _best(decision, [named.get(name, weight * scale) for name, weight in old.items()], band_width)

    return policy


def _best(decision: LoggedDecision, weights: Sequence[float], band_width: float) -> Sequence[float]:
    """Even chances for the candidates within the width of the best."""
    scores = [
        sum(weight * part for weight, part in zip(weights, candidate.parts, strict=True))
        for candidate in decision.candidates
    ]
    least = max(scores) / (1 + band_width)
    first = [score >= least or math.isclose(score, least, rel_tol=1e-12) for score in scores]
    return [1 / sum(first) if is_first else 0.0 for is_first in first]


def evaluate(
    policy: TargetPolicy,
    log: DecisionLog,
    reward: Reward,
    *,
    confidence: float = 0.95,
) -> Evaluation:
    """What `policy` would have brought in the mean, by the three estimators above.

    `reward` of an outcome: any finite number, larger is better or not, as you like. Needs NumPy. Raises
    InvalidInput
    for fewer than `DECISIONS_MIN` usable decisions, a policy whose probabilities do not add up to 1, a reward
    that is not finite, or a confidence outside (0, 1): with the decision's place in the log.
    """
    import numpy as np

    if not 0 < confidence < 1:
        raise InvalidInput("confidence: must be between 0 and 1", field="confidence")
    ended = [(number, one) for number, one in enumerate(log) if one.outcome is not None]
    used = [(number, one) for number, one in ended if one.whole]
    if len(used) < DECISIONS_MIN:
        raise InvalidInput(
            f"log: needs {DECISIONS_MIN} decisions with an outcome that list all who could be chosen; it has"
            f" {len(used)}",
            field="log",
        )
    chances = [_probabilities(policy, one, number) for number, one in used]
    rewards = np.array([_reward(reward, one, number) for number, one in used])
    taken = np.array([chance[one.chosen] for chance, (_, one) in zip(chances, used, strict=True)])
    weights = taken / np.array([one.propensity for _, one in used])
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    decisions = [one for _, one in used]
    estimates = (
        _mean("ips", weights * rewards, z),
        _self_normalised(weights, rewards, z),
        _mean("dr", _doubly_robust(decisions, chances, weights, rewards), z),
    )
    squares = float((weights**2).sum())
    return Evaluation(
        logged=float(rewards.mean()),
        estimates=estimates,
        decisions=len(used),
        effective_decisions=float(weights.sum()) ** 2 / squares if squares else 0.0,
        coverage=len(used) / len(ended),
    )


@dataclass(frozen=True, slots=True)
class Replay:
    """Who would have won: picks by key as they were and as they would have been, and the share that
    differs."""

    decisions: int
    changed: float
    logged: Counter[str]
    replayed: Counter[str]


def replay(policy: TargetPolicy, log: DecisionLog) -> Replay:
    """Who `policy` would have chosen, decision by decision. It says nothing of what would have come of it:
    other choices would have changed the loads behind the later ones. Of several equals the first listed
    counts."""
    logged: Counter[str] = Counter()
    replayed: Counter[str] = Counter()
    changed = 0
    for number, one in enumerate(log):
        chances = _probabilities(policy, one, number)
        winner = max(range(len(chances)), key=chances.__getitem__)
        logged[one.candidates[one.chosen].key] += 1
        replayed[one.candidates[winner].key] += 1
        changed += chances[one.chosen] < chances[winner]
    return Replay(len(log), changed / len(log) if len(log) else 0.0, logged, replayed)


def _probabilities(policy: TargetPolicy, one: LoggedDecision, number: int) -> list[float]:
    chances = [float(chance) for chance in policy(one)]
    if len(chances) != len(one.candidates):
        raise InvalidInput(
            f"policy: decision {number} has {len(one.candidates)} candidates, not {len(chances)}",
            field="policy",
        )
    if min(chances) < 0 or not math.isclose(sum(chances), 1.0, abs_tol=1e-9):
        raise InvalidInput(
            f"policy: its probabilities in decision {number} do not add up to 1", field="policy"
        )
    return chances


def _reward(reward: Reward, one: LoggedDecision, number: int) -> float:
    outcome = one.outcome
    value = math.nan if outcome is None else float(reward(outcome))
    if not math.isfinite(value):
        raise InvalidInput(f"reward: of decision {number} is not finite", field="reward")
    return value


def _mean(method: Method, values: NDArray[np.float64], z: float) -> Estimate:
    value = float(values.mean())
    half = z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(method, value, value - half, value + half)


def _self_normalised(weights: NDArray[np.float64], rewards: NDArray[np.float64], z: float) -> Estimate:
    total = float(weights.sum())
    if not total:
        return Estimate("snips", math.nan, math.nan, math.nan)
    value = float((weights * rewards).sum()) / total
    half = z * math.sqrt(float(((weights * (rewards - value)) ** 2).sum())) / total
    return Estimate("snips", value, value - half, value + half)


def _doubly_robust(
    decisions: Sequence[LoggedDecision],
    chances: Sequence[Sequence[float]],
    weights: NDArray[np.float64],
    rewards: NDArray[np.float64],
) -> NDArray[np.float64]:
    import numpy as np

    rows: Any = [np.array([candidate.parts for candidate in one.candidates]) for one in decisions]
    taken = np.stack([parts[one.chosen] for parts, one in zip(rows, decisions, strict=True)])
    values = np.empty(len(decisions))
    for half in (0, 1):
        model = _ridge(taken[1 - half :: 2], rewards[1 - half :: 2])
        for place in range(half, len(decisions), 2):
            told = _with_one(rows[place]) @ model
            expected = float(np.dot(chances[place], told))
            missed = rewards[place] - told[decisions[place].chosen]
            values[place] = expected + weights[place] * missed
    return values


def _ridge(parts: NDArray[np.float64], rewards: NDArray[np.float64]) -> NDArray[np.floating]:
    import numpy as np

    design = _with_one(parts)
    penalty = _RIDGE * len(design) * np.eye(design.shape[1])
    penalty[-1, -1] = 0.0  # the mean is not drawn to 0
    solution: NDArray[np.floating] = np.linalg.lstsq(
        design.T @ design + penalty, design.T @ rewards, rcond=None
    )[0]
    return solution


def _with_one(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.column_stack([parts, np.ones(len(parts))])
