"""Offline evaluation against worlds whose true values are known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil.errors import InvalidInput
from yggdrasil.scoring import (
    Candidate,
    DecisionLog,
    LoggedDecision,
    Outcome,
    Router,
    evaluate,
    replay,
    weighted,
    what_if,
)

EXPLORED = 0.2


def worth(candidate: Candidate) -> float:
    """The true mean reward: not quite linear in the parts, so that the regression is wrong."""
    price, quality, latency, _, _ = candidate.parts
    return 0.5 * quality + 0.3 * latency * latency + 0.2 * price


def world(seed: int, decisions: int = 400, candidates: int = 4) -> DecisionLog:
    """A log by a policy that takes the best price, and explores evenly."""
    chance = random.Random(seed)
    made = []
    for number in range(decisions):
        listed = tuple(
            Candidate(f"c{place}", tuple(chance.random() for _ in range(5)))  # type: ignore[arg-type]  five
            for place in range(candidates)
        )
        greedy = max(range(candidates), key=lambda place: listed[place].parts[0])
        explored = chance.random() < EXPLORED
        chosen = chance.randrange(candidates) if explored else greedy
        propensity = EXPLORED / candidates + (1 - EXPLORED) * (chosen == greedy)
        outcome = Outcome(ok=True, quality=worth(listed[chosen]) + chance.gauss(0, 0.1))
        made.append(LoggedDecision(number, chosen, propensity, explored, candidates, listed, outcome))
    return DecisionLog(made)


def quality(outcome: Outcome) -> float:
    return outcome.quality


BY_QUALITY = weighted(price=0, quality=1, latency=0, availability=0, fairness=0)


def true_value(log: DecisionLog) -> float:
    """Of the policy that takes the best quality, over the decisions of the log."""
    return sum(worth(max(one.candidates, key=lambda c: c.parts[1])) for one in log) / len(log)


def test_intervals_hold_the_truth_as_often_as_they_say_and_the_doubly_robust_is_the_narrowest() -> None:
    held = dict.fromkeys(("ips", "snips", "dr"), 0)
    widths = dict.fromkeys(held, 0.0)
    seeds = 100
    for seed in range(seeds):
        log = world(seed)
        found = evaluate(BY_QUALITY, log, quality)
        for estimate in found.estimates:
            held[estimate.method] += estimate.low <= true_value(log) <= estimate.high
            widths[estimate.method] += estimate.high - estimate.low
    # 95 of 100 are expected, of an exact interval; 88 is three standard deviations below.
    assert min(held.values()) >= 88, held
    assert widths["dr"] < widths["snips"] < widths["ips"]


def test_the_logged_mean_is_no_estimate_of_another_policy() -> None:
    """The control: taking the log as it is would be wrong by far."""
    log = world(1, decisions=4_000)
    found = evaluate(BY_QUALITY, log, quality)
    assert abs(found.logged - true_value(log)) > 0.05
    assert abs(found["dr"].value - true_value(log)) < 0.02


def test_the_policy_that_logged_is_worth_what_the_log_says() -> None:
    log = world(2, decisions=2_000)

    def logger(one: LoggedDecision) -> Sequence[float]:
        greedy = max(range(4), key=lambda place: one.candidates[place].parts[0])
        return [EXPLORED / 4 + (1 - EXPLORED) * (place == greedy) for place in range(4)]

    found = evaluate(logger, log, quality)
    for estimate in found.estimates:
        assert estimate.value == pytest.approx(found.logged, abs=1e-2)
    assert found["ips"].value == pytest.approx(found.logged, abs=1e-12)
    assert found.effective_decisions == pytest.approx(2_000)
    assert found.coverage == 1


def test_decisions_that_do_not_list_everybody_do_not_count() -> None:
    log = world(3)
    cut = [
        LoggedDecision(
            o.at_ms, o.chosen, o.propensity, o.explored, 40 if o.at_ms % 2 else 4, o.candidates, o.outcome
        )
        for o in log
    ]
    found = evaluate(BY_QUALITY, DecisionLog(cut), quality)
    assert found.coverage == 0.5
    assert found.decisions == 200
    with pytest.raises(InvalidInput, match="log: needs 10 decisions"):
        evaluate(BY_QUALITY, DecisionLog(cut[1::2]), quality)


@given(st.lists(st.floats(0, 10), min_size=5, max_size=5).filter(any))
def test_weights_make_a_policy_of_probabilities(weights: list[float]) -> None:
    one = world(4, decisions=1)[0]
    chances = weighted(*weights)(one)
    assert math.isclose(sum(chances), 1)
    scores = [sum(w * p for w, p in zip(weights, c.parts, strict=True)) for c in one.candidates]
    assert chances[scores.index(max(scores))] > 0


def test_bad_arguments_are_named() -> None:
    log = world(5)
    for policy, message in (
        (lambda one: [1.0], "policy: decision 0 has 4 candidates"),
        (lambda one: [0.5, 0.0, 0.0, 0.0], "probabilities in decision 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            evaluate(policy, log, quality)
    with pytest.raises(InvalidInput, match="reward: of decision 0"):
        evaluate(BY_QUALITY, log, lambda outcome: math.nan)
    with pytest.raises(InvalidInput, match="confidence"):
        evaluate(BY_QUALITY, log, quality, confidence=1.0)
    with pytest.raises(InvalidInput, match="price: must be finite"):
        weighted(price=-1)
    with pytest.raises(InvalidInput, match="one weight"):
        weighted(0, 0, 0, 0, 0)


def test_a_replay_says_who_would_have_won() -> None:
    log = world(6)
    found = replay(weighted(price=1, quality=0, latency=0, availability=0, fairness=0), log)
    assert found.decisions == 400
    # Only what was explored was another one: three of four of a fifth.
    assert found.changed == pytest.approx(0.15, abs=0.06)
    assert sum(found.replayed.values()) == sum(found.logged.values()) == 400


def router_log(decisions: int = 200) -> DecisionLog:
    router = Router(explore_ppm=200_000)
    for place in range(6):
        key = bytes([place]) * 16
        router.upsert(
            key=key,
            owner=key,
            group=key,
            model="m",
            price_microcents=10_000_000 * (1 + place),
            context_tokens=10_000,
            capacity=500,
        )
        router.set_online(key, True)
    log = DecisionLog()
    for number in range(decisions):
        made = router.pick(
            model="m", network=b"\xff" * 16, scope="market", context_tokens=10, now_ms=number, seed=number
        )
        assert made.key is not None
        log.add(made.card(), Outcome(ok=True, cost_microcents=made.key[0], latency_ms=1.0, quality=0.5))
    return log


def test_the_routers_cards_are_entries_of_the_log() -> None:
    log = router_log()
    assert len(log) == 200
    assert all(one.whole for one in log)
    assert 10 < sum(one.explored for one in log) < 80
    cheap = weighted(price=1, quality=0, latency=0, availability=0, fairness=0)
    found = evaluate(cheap, log, lambda outcome: outcome.cost_microcents)
    assert found["snips"].low <= 0.0 <= found["snips"].high + 1e-9


def test_a_log_survives_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    log = router_log()
    log.add(json.loads(json.dumps(_card())))  # without an outcome
    log.to_parquet(tmp_path / "log.parquet")
    again = DecisionLog.from_parquet(tmp_path / "log.parquet")
    assert list(again) == list(log)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    (tmp_path / "none").write_bytes(b"PAR1 but not really")
    with pytest.raises(InvalidInput, match="path: holds no Parquet"):
        DecisionLog.from_parquet(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        DecisionLog.from_parquet(tmp_path / "absent")
    with pytest.raises(InvalidInput, match="log: has no column at_ms"):
        DecisionLog.from_arrow(pa.table({"x": [1]}))
    table = router_log(3).to_arrow()
    spoilt = table.set_column(2, "propensity", pa.array([0.5, 0.0, 0.5]))
    with pytest.raises(InvalidInput, match="row 1: propensity"):
        DecisionLog.from_arrow(spoilt)


def _card(**changed: object) -> dict[str, object]:
    candidate = {
        "key": "a",
        "price": 0.1,
        "quality": 0.2,
        "latency": 0.3,
        "availability": 0.4,
        "fairness": 0.5,
    }
    return {
        "now_ms": 1,
        "chosen": "a",
        "propensity": 0.5,
        "explored": False,
        "feasible": 1,
        "candidates": [candidate],
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"chosen": "b"}, "chosen"),
        ({"propensity": 0}, "propensity"),
        ({"propensity": True}, "propensity"),
        ({"feasible": 0}, "feasible"),
        ({"candidates": []}, "candidates"),
        ({"candidates": [{"key": "a"}]}, "price"),
        ({"candidates": [5]}, "candidates"),
        ({"now_ms": None}, "now_ms"),
        ({"at_ms": 1.5}, "at_ms"),
    ],
)
def test_a_card_that_is_none_is_refused_by_the_field(changed: dict[str, object], field: str) -> None:
    log = DecisionLog()
    with pytest.raises(InvalidInput) as raised:
        log.add(_card(**changed))
    assert raised.value.field == field
    with pytest.raises(InvalidInput, match="card: is no JSON"):
        log.add(b"{")
    assert len(log) == 0


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"ok": 1}, "outcome.ok: must be true or false"),
        ({"cost_microcents": -1}, "outcome.cost_microcents: must be whole"),
        ({"cost_microcents": 1.5}, "outcome.cost_microcents: must be whole"),
        ({"cost_microcents": 2**63}, "outcome.cost_microcents: must be whole"),
        ({"latency_ms": -1.0}, "outcome.latency_ms: must be at least 0"),
        ({"latency_ms": None}, "outcome.latency_ms: must be a finite number"),
        ({"quality": math.inf}, "outcome.quality: must be a finite number"),
    ],
)
def test_an_outcome_that_is_none_is_refused_by_the_field(changed: dict[str, Any], rule: str) -> None:
    log = DecisionLog()
    with pytest.raises(InvalidInput, match=rule):
        log.add(_card(), Outcome(**{"ok": True, **changed}))
    assert len(log) == 0


def test_outcomes_in_numpys_numbers_are_taken_as_pythons() -> None:
    log = DecisionLog()
    log.add(_card(), Outcome(np.bool_(True), np.int64(7), np.float32(1.5), np.float64(0.25)))
    # NumPy's numbers are equal to Python's, and say so otherwise.
    assert repr(log[0].outcome) == repr(Outcome(True, 7, 1.5, 0.25))


def test_nulls_of_a_table_are_what_is_not_known_and_no_cost_of_nothing() -> None:
    pa = pytest.importorskip("pyarrow")
    log = DecisionLog()
    log.add(_card(), Outcome(ok=False, cost_microcents=7))
    rows = log.to_arrow().to_pylist()
    rows[0]["outcome"] |= {"latency_ms": None, "quality": None}
    read = DecisionLog.from_arrow(pa.Table.from_pylist(rows, log.to_arrow().schema))[0].outcome
    assert read is not None
    assert (read.ok, read.cost_microcents) == (False, 7)
    assert [math.isnan(value) for value in (read.latency_ms, read.quality)] == [True, True]
    rows[0]["outcome"]["cost_microcents"] = None
    with pytest.raises(InvalidInput, match=r"row 0: outcome\.cost_microcents"):
        DecisionLog.from_arrow(pa.Table.from_pylist(rows, log.to_arrow().schema))


class TestWhatIf:
    def one(self, weights: tuple[float, float, float, float, float] | None = None) -> LoggedDecision:
        listed = (
            Candidate("cheap", (0.9, 0.5, 0.5, 0.5, 0.5)),
            Candidate("good", (0.5, 0.92, 0.5, 0.5, 0.5)),
        )
        return LoggedDecision(0, 1, 1.0, False, 2, listed, weights=weights)

    def test_a_share_is_of_the_whole_and_the_others_keep_their_proportions(self) -> None:
        # 0.30 · 0.4 < 0.25 · 0.42 · k at k = 1.15: the sides change between 30 and 40 % for the price.
        log = DecisionLog([self.one((0.25, 0.30, 0.20, 0.15, 0.10))])
        assert replay(what_if(), log).replayed == {"good": 1}
        assert replay(what_if(price=0.4), log).replayed == {"cheap": 1}
        assert replay(what_if(price=0.4, quality=0.6), log).replayed == {"good": 1}

    def test_without_weights_on_the_card_those_of_the_score_count(self) -> None:
        log = DecisionLog([self.one()])
        assert replay(what_if(), log).replayed == replay(weighted(), log).replayed

    def test_who_is_within_the_band_is_taken_evenly(self) -> None:
        assert what_if(band_width=0.1)(self.one()) == [0.5, 0.5]
        assert sorted(what_if()(self.one())) == [0.0, 1.0]

    def test_asks_the_log_of_a_router_with_weights_of_its_own(self, tmp_path: Path) -> None:
        """Weighed by quality, the dear and good one won: had price weighed 90 %, it had cost less."""
        router = Router(weights=(0.1, 0.6, 0.1, 0.1, 0.1), explore_ppm=300_000)
        log = DecisionLog()
        for number in (1, 2):
            router.upsert(
                key=number.to_bytes(16, "big"),
                owner=bytes(16),
                group=number.to_bytes(16, "big"),
                model="small",
                price_microcents=number * 100_000_000,
                context_tokens=9_000,
                capacity=10_000,
            )
            router.set_online(number.to_bytes(16, "big"), True)
            router.set_estimates(
                number.to_bytes(16, "big"), quality=0.4 * number, latency_ms=1.0, availability=1.0
            )
        for seed in range(600):
            pick = router.pick(
                model="small",
                network=b"n" * 16,
                scope="market",
                context_tokens=1,
                work_tokens=0,
                now_ms=0,
                seed=seed,
            )
            cost = int.from_bytes(pick.key or b"", "big")
            log.add(pick.card(), Outcome(ok=True, cost_microcents=cost, latency_ms=1.0, quality=1.0))
        log.to_parquet(tmp_path / "log.parquet")
        read = DecisionLog.from_parquet(tmp_path / "log.parquet")
        assert list(read) == list(log)
        assert read[0].weights == pytest.approx((0.1, 0.6, 0.1, 0.1, 0.1))
        as_it_was = evaluate(what_if(), read, lambda outcome: outcome.cost_microcents)
        cheaper = evaluate(what_if(price=0.9), read, lambda outcome: outcome.cost_microcents)
        assert as_it_was["snips"].value == pytest.approx(2.0)
        assert cheaper["snips"].value == pytest.approx(1.0)

    def test_logs_from_before_weights_were_logged_are_read(self) -> None:
        table = DecisionLog([self.one()]).to_arrow().drop_columns(["weights"])
        assert DecisionLog.from_arrow(table)[0].weights is None

    @pytest.mark.parametrize(
        ("shares", "field"),
        [
            ({"price": 1.5}, "price"),
            ({"latency": math.nan}, "latency"),
            ({"price": 0.6, "quality": 0.6}, "price"),
            ({"band_width": -0.1}, "band_width"),
        ],
    )
    def test_shares_that_cannot_be_are_refused(self, shares: dict[str, float], field: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            what_if(**shares)
        assert refused.value.field == field

    def test_shares_that_leave_something_over_for_nobody_are_refused(self) -> None:
        with pytest.raises(InvalidInput, match="add up to 1") as refused:
            what_if(price=0.4)(self.one((1.0, 0.0, 0.0, 0.0, 0.0)))
        assert refused.value.field == "price"

    def test_weights_on_a_card_that_cannot_be_are_refused(self) -> None:
        card = {
            "now_ms": 0,
            "chosen": 0,
            "propensity": 1.0,
            "feasible": 1,
            "explored": False,
            "candidates": [dict.fromkeys(("price", "quality", "latency", "availability", "fairness"), 0.5)],
            "weights": dict.fromkeys(("price", "quality", "latency", "availability", "fairness"), 0.5),
        }
        card["candidates"][0]["key"] = "a"  # type: ignore[index]  a list
        with pytest.raises(InvalidInput, match="weights") as refused:
            DecisionLog().add(card)
        assert refused.value.field == "weights"
