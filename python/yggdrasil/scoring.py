"""The provider score, and the router that picks by it. Imports nothing of the server.

The score is ``0.30 price + 0.25 quality + 0.20 latency + 0.15 availability + 0.10 fairness``, each part in
[0, 1]: ``p₀ / (p₀ + price)``, the lower bound of the quality, ``l₀ / (l₀ + latency)``, the decayed share of
successes, and ``f₀ / (f₀ + work)``. The parts are absolute: a change at one provider moves that one's score
alone.

- ``score(price, quality, latency_ms, availability, work, *, price_reference, latency_reference_ms,
  work_reference) -> float``. Price and its reference in one unit, work and its reference in one unit.
- ``score_columns(...) -> list[float]``: the same, of five sequences of equal length, one entry per provider.

``Router(...)`` holds the offers and picks one for a request. It is a function of its state, the request and
the seed; times are whole milliseconds from any fixed start, keys are 16 bytes, prices are micro-cents per
1,000,000 tokens.

- ``upsert(*, key, owner, group, model, price_microcents, context_tokens, capacity, visibility="market",
  group_capacity=None, output_tokens=None)``: `owner` is the network, `group` the device (its offers share a
  breaker, and its `group_capacity` slots), `visibility` ``own`` or ``market``. A new offer is offline and
  open; a changed one keeps how it stands. ``remove(key)``, ``set_online(key, online)``,
  ``set_open(key, open)`` (closed: its owner takes no work) and ``set_estimates(key, *, quality, latency_ms,
  availability)`` return False if the offer is not here.
- ``pick(*, model, network, scope, context_tokens, now_ms, seed, work_tokens=context_tokens,
  price_microcents_max=None, only=(), ignore=(), tried=(), output_tokens=None, prefer=None) -> Decision``:
  `scope` is ``own`` (the network's own offers) or ``market`` (those of other networks). `prefer` is taken in
  place of the best if it passes the gates and its band is the best one's or the next. Takes a slot of the
  offer picked, which ``release(key)`` gives back, and charges it the work. ``load(group)``: the
  slots taken of a device.
- ``pick_many(*, seeds, ...) -> list``: the same request once for each seed, each as ``(key, explored,
  propensity)``, or None where nothing fitted; no cards.
- ``snapshot() -> bytes``, ``Router.restore(snapshot)``: a router that goes on where this one was, to the last
  bit. Anything else is an `InvalidInput` on ``snapshot``.
- ``report(group, ok, now_ms)``: how a request to a device ended; failures in a row open its breaker.
  with `breaker_window`, 40 % failed of the last requests do too. ``report_owner(owner, ok, now_ms)`` is the
  same over all devices of an owner, with four times the failures in a row and twice the window.
  ``breaker_state(group_or_owner, now_ms)`` is ``closed``, ``open`` or ``half_open``. With
  `breaker_tested_apart` no request goes through a half-open breaker: `breaker_successes` reports close it.
- ``take_tallies()``: for each offer asked for since the last call ``(key, asked, got, fair_share, missed)``,
  `missed` by the gate it failed, the part of the score that cost it most against the winner, ``turn`` or
  ``chance``. ``take_asked()``: requests to the market since the last call, of all and of each offerer.
- ``medians()``: ``(model, price, latency_ms)`` over the offers that could serve the market now.
- ``tick(now_ms, *, offers_max=None) -> bool``: begins an epoch. With `offers_max` no more offers than that
  are scored anew, and it returns False while some are left: call it again with the same time.
  ``set_references(model, *, price_reference, latency_reference_ms)`` at its start. Scores change only then,
  and when something happens to the provider itself.

``Decision``: ``key``, ``group``, ``owner`` and ``propensity`` (None if nothing fits), ``explored``,
``feasible``, ``gates`` (offers that the requester may know of, by the first gate each failed, in the order of
the gates), and ``card() -> bytes``, the decision card as one JSON object: ``chosen``, ``explored``,
``propensity``, ``feasible``, ``gates``, ``candidates`` (at most 17, best first, each with ``key``, ``score``,
``band``, the five parts and ``chosen``), ``effective_weights`` (how much each part decided, adding up to 1:
its weight times the sum of its distances between the winner and the other candidates, over the same of all
five), ``now_ms``, ``epoch_ms``, ``seed``. The keys in a card are the
router's own: put pseudonyms in their place before a requester sees them.

Offers whose scores differ by less than the band width count as equal and take turns by start-time fair
queueing (Goyal, Vin and Cheng 1996), weighted by capacity. `newcomer_ppm` picks in a million go to an
offer picked less than three times, if there is one; one that chance passed over in twice as many picks as
that takes on average gets the next. `explore_ppm` picks in a million are drawn evenly among
all that passed the gates, with the probability of the pick recorded, so that logs can be evaluated
offline.

What breaks a rule raises `InvalidInput` with the name of the field, and changes nothing.
"""

from yggdrasil._core import Decision, Router, score, score_columns

__all__ = ["Decision", "Router", "score", "score_columns"]
