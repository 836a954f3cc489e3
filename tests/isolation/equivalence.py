"""Whether two kinds of answers take the same time: equivalence within a margin, on noisy machines. Pure.

A test that finds no difference proves nothing, so the burden is turned round (TOST: two one-sided tests): the
times count as equal only when the whole confidence interval of their difference lies within the margin. What
a machine adds to a time is never negative, so the quickest quarter of each block of neighbours in time is
compared, a difference for each block; slow phases hit both kinds of a block alike. Of the blocks' differences
it is the 20 % trimmed mean with the error and the t of Yuen (1974), which single stalls do not move. Beside
it stands Welch's t of the two kinds' blocks, cut at a common percentile as dudect does it (Reparaz, Balasch,
Verbauwhede 2017): it knows nothing of neighbours, so on a busy machine it sees less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance
from typing import Final

TRIMMED_SHARE: Final = 0.2
KEPT_SHARE: Final = 0.9
"""Of both samples together, the quickest: the rest is the machine's."""
ALPHA: Final = 0.001
BLOCK_PAIRS: Final = 20
QUICKEST: Final = 5
"""Of a block's answers of one kind: with a machine loaded sixfold, a fifth of the error of whole pairs."""
BLOCKS_MIN: Final = 15
T_SUSPICIOUS: Final = 4.5


@dataclass(frozen=True)
class Verdict:
    """`difference_us`: by how much the first kind takes longer, in its interval; `t`: Yuen's."""

    pairs: int
    t: float
    welch_t: float
    difference_us: float
    low_us: float
    high_us: float
    margin_us: float

    @property
    def equivalent(self) -> bool:
        return -self.margin_us < self.low_us and self.high_us < self.margin_us

    @property
    def differs(self) -> bool:
        """Shown to lie outside the margin, not only not shown to lie within it."""
        return self.low_us > self.margin_us or self.high_us < -self.margin_us


def trimmed_mean(values: Sequence[float], share: float = TRIMMED_SHARE) -> tuple[float, float]:
    """The mean without `share` of the values at either end, and its standard error. At least 3 values."""
    ordered, count = sorted(values), len(values)
    cut = int(count * share)
    kept = ordered[cut : count - cut]
    if len(kept) < 2:
        raise ValueError("values: too few are left of them")
    pulled = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = math.sqrt(variance(pulled) / count) / (1 - 2 * share)
    return fmean(kept), error


def welch_t(one: Sequence[float], other: Sequence[float], kept: float = KEPT_SHARE) -> float:
    """Welch's t of what both samples have up to their common percentile `kept`. 0 for two constants alike."""
    pooled = sorted([*one, *other])
    limit = pooled[min(len(pooled) - 1, int(len(pooled) * kept))]
    first, second = ([value for value in values if value <= limit] for values in (one, other))
    if min(len(first), len(second)) < 2:
        return math.inf
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    between = fmean(first) - fmean(second)
    if error == 0:
        return math.copysign(math.inf, between) if between else 0.0
    return between / error


def student(freedom: int, alpha: float) -> float:
    """The quantile of Student's distribution that alpha lies above, by the expansion of Cornish and Fisher
    (Abramowitz and Stegun 26.7.5); within 1 % from 8 degrees of freedom and alpha 0.001 on.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def judge(one: Sequence[float], other: Sequence[float], margin_us: float, alpha: float = ALPHA) -> Verdict:
    """`one[i]` and `other[i]`, in µs, were taken next to each other. What is left of a block is not judged.

    ValueError unless there are as many of both, and enough for `BLOCKS_MIN` blocks.
    """
    if len(one) != len(other):
        raise ValueError("one, other: must be pairs")
    ours, theirs = _quick(one), _quick(other)
    blocks = [first - second for first, second in zip(ours, theirs, strict=True)]
    if len(blocks) < BLOCKS_MIN:
        raise ValueError(f"one, other: must be {BLOCKS_MIN * BLOCK_PAIRS} pairs at least")
    between, error = trimmed_mean(blocks)
    # Yuen: as many degrees of freedom as blocks are left, less one.
    left = len(blocks) - 2 * int(len(blocks) * TRIMMED_SHARE)
    reach = student(left - 1, alpha) * error
    t = between / error if error else math.copysign(math.inf, between) if between else 0.0
    welch = welch_t(ours, theirs)
    return Verdict(len(one), t, welch, between, between - reach, between + reach, margin_us)


def _quick(times: Sequence[float]) -> list[float]:
    """Of each whole block the mean of its quickest."""
    starts = range(0, len(times) - BLOCK_PAIRS + 1, BLOCK_PAIRS)
    return [fmean(sorted(times[at : at + BLOCK_PAIRS])[:QUICKEST]) for at in starts]
