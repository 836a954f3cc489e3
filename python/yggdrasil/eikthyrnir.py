"""Quality of providers: weighted aggregates in which the past fades.

``Quality(...)`` keeps four metrics for each provider, named by a key of 1 to 64 bytes:

=============  ==================================================  ==============
``success``    a request ended well (1) or not (0): availability   0 to 1
``quality``    how good an answer was                              0 to 1
``latency_ms`` time to the first chunk, milliseconds               0 to 10¹²
``throughput`` tokens in a second                                  0 to 10¹²
=============  ==================================================  ==============

- ``observe(provider, metric, value, *, at_ms, weight=1.0, rater=None) -> Change | None``: weight above 0 and
  at most 1. An observation counts half after each ``half_life_ms``; the order in which they arrive does not
  matter. With a `rater` (16 bytes; shares only), all that this rater says of the provider counts with at most
  ``rater_weight_max``.
- ``observe_many(providers, metric, values, *, at_ms, weights=None) -> list[Change]``: columns, one row an
  observation; `at_ms` one time or a column. `providers` is a column of keys or of handles. All rows or none.
- ``handles(keys)``: makes providers known; a column of int64, in the kind of the keys, each good until its
  provider is removed or pruned.
- ``estimate(provider, metric, *, at_ms) -> Estimate``: ``mean`` (drawn towards the prior), ``weight`` (what
  is left of the observations), ``variance``, ``lower_bound`` and ``upper_bound`` (`z` standard errors away).
  A provider never seen gets the prior; one not seen for long drifts back to it.
- ``quantile(provider, metric, rank) -> float | None`` and ``trimmed_mean(provider, metric, trim=0.05)``: of
  latency and throughput, if the registry was made with ``quantiles=True``; within 1 %.
- ``snapshot() -> bytes``, ``Quality.restore(bytes)``: all of it, settings too. ``memory_bytes``: what
  it holds, without the room for sorting columns, which the process keeps (80 MiB at most).
- ``merge(other)``: adds what another registry of the same half-life has seen; ``a.merge(b)`` and
  ``b.merge(a)`` end equal.
- ``remove(provider) -> bool``, ``prune(*, at_ms, weight_min) -> int``, ``len(quality)``.

A `Change` (``provider``, ``metric``, ``before``, ``after``) is returned when the mean has moved, since it was
last told, by ``notice_share`` or more (shares) or by the factor ``notice_ratio`` or more (amounts); a
registry made without the two tells nothing. Rules, columns and limits: docs/engines/eikthyrnir.md.

Times are whole milliseconds since any fixed start. What breaks a rule raises `InvalidInput` and changes
nothing.

Sources. Decay: Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009. Merging of means and
variances: Chan, Golub and LeVeque 1983. Bounds of shares: the beta reputation with forgetting (Jøsang and
Ismail 2002): with decayed weight ``W`` and mean ``x`` and a prior of mean ``m₀`` and weight ``n₀``, ``m =
(n₀·m₀ + W·x) / (n₀ + W)`` and ``bound = m ∓ z·√(m·(1 − m) / (n₀ + W + 1))`` within [0, 1]. Bounds of amounts:
``m ∓ z·√(s² / (n₀ + W))`` with ``s² = (n₀·m₀² + W·variance) / (n₀ + W)``, not below 0.
"""

from yggdrasil._core import Change, Estimate, Quality

__all__ = ["Change", "Estimate", "Quality"]
