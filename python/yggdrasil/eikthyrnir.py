"""Quality of providers: weighted aggregates in which the past fades.

``Quality(...)`` keeps four metrics for each provider, named by a key of 1 to 64 bytes:

=============  ==================================================  ==============
``success``    a request ended well (1) or not (0): availability   0 to 1
``quality``    how good an answer was                              0 to 1
``latency_ms`` time to the first chunk, milliseconds               0 to 10¹²
``throughput`` tokens in a second                                  0 to 10¹²
=============  ==================================================  ==============

- ``observe``, ``observe_many``; ``handles``, which make columns fast;
- ``estimate``, ``quantile``, ``trimmed_mean``; a `Change` when a mean has moved far;
- ``merge``, ``snapshot`` and ``Quality.restore``; ``remove``, ``prune``, ``memory_bytes``, ``len(quality)``.

Rules, columns and limits: docs/engines/eikthyrnir.md.

Sources. Decay: Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009. Merging of means and
variances: Chan, Golub and LeVeque 1983. Bounds of shares: the beta reputation with forgetting (Jøsang and
Ismail 2002): with decayed weight ``W`` and mean ``x`` and a prior of mean ``m₀`` and weight ``n₀``, ``m =
(n₀·m₀ + W·x) / (n₀ + W)`` and ``bound = m ∓ z·√(m·(1 − m) / (n₀ + W + 1))`` within [0, 1]. Bounds of amounts:
``m ∓ z·√(s² / (n₀ + W))`` with ``s² = (n₀·m₀² + W·variance) / (n₀ + W)``, not below 0.
"""

from yggdrasil._core import Change, Estimate, Quality

__all__ = ["Change", "Estimate", "Quality"]
