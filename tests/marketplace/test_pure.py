"""The pure parts: the state table, pseudonyms, seals, budgets, bills."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggdrasil import heidrun
from yggdrasil.errors import ConfigurationError, InvalidInput
from yggdrasil.marketplace import billing
from yggdrasil.marketplace.billing import Count
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import TRANSITIONS, Offer, State, sources
from yggdrasil.marketplace.sealing import ResultSeal
from yggdrasil.marketplace.wishes import wishes_from

KEY = bytes(range(32))

OFFER = Offer(
    network_id=UUID(int=1),
    id=UUID(int=2),
    provider=UUID(int=3),
    user_id=UUID(int=4),
    device=UUID(int=5),
    audience="market",
    status="active",
    model="m",
    kind="chat",
    price_cents=10,
    price_unit_tokens=1_000,
    rounding="per_request",
    context_tokens_max=10_000,
    capacity_jobs=1,
    world="alfheim",
    memory_gib=1,
    measured_latency_ms=1,
    measured_tokens_per_second=1,
)


def test_the_state_table() -> None:
    assert set(TRANSITIONS) == set(State)
    allowed = {(old.value, new.value) for old, targets in TRANSITIONS.items() for new in targets}
    assert allowed == {
        ("PENDING", "PROCESSING"),
        ("PENDING", "FAILED"),
        ("PENDING", "CANCELLED"),
        ("PROCESSING", "COMPLETED"),
        ("PROCESSING", "FAILED"),
        ("PROCESSING", "CANCELLED"),
        ("PROCESSING", "PENDING"),  # sent back to the queue: nobody took it
        ("COMPLETED", "REFUNDED"),
        ("CANCELLED", "REFUNDED"),
    }
    for target in State:
        assert set(sources(target)) == {old for old, new in allowed if new == target.value}


@given(st.uuids(), st.uuids(), st.uuids())
def test_pseudonyms_are_ours_to_invert(offer: UUID, viewer: UUID, other: UUID) -> None:
    names = Pseudonyms(KEY)
    name = names.name(viewer, offer)
    assert names.offer(viewer, name) == offer
    assert offer.hex not in name
    assert name == Pseudonyms(KEY).name(viewer, offer)
    assert Pseudonyms(KEY[::-1]).offer(viewer, name) != offer
    if other != viewer:
        assert names.name(other, offer) != name
        assert names.offer(other, name) != offer


def test_what_is_no_pseudonym() -> None:
    names = Pseudonyms(KEY)
    for text in ("", "offer_", "offer_" + "g" * 32, "offer_" + "0" * 32 + "\n", "OFFER_" + "0" * 32):
        assert names.offer(UUID(int=1), text) is None
    with pytest.raises(ConfigurationError):
        Pseudonyms(b"short")


def test_a_result_opens_in_its_place_only() -> None:
    seal = ResultSeal(KEY)
    a, b, c, d = (UUID(int=n) for n in range(1, 5))
    sealed = seal.seal(a, b, c, b"n" * 12, b"secret")
    assert b"secret" not in sealed
    assert seal.open(a, b, c, b"n" * 12, sealed) == b"secret"
    for place in ((d, b, c), (a, d, c), (a, b, d)):
        assert seal.open(*place, b"n" * 12, sealed) is None
    assert ResultSeal(KEY[::-1]).open(a, b, c, b"n" * 12, sealed) is None


prices = st.integers(0, 1_000_000)
units = st.sampled_from([1_000, 1_000_000])
roundings = st.sampled_from(["per_request", "per_statement"])
tokens = st.integers(0, 2_000_000)


@given(
    prices,
    units,
    roundings,
    st.integers(0, 20_000),
    st.integers(0, 20_000),
    st.one_of(st.none(), st.integers(0, 10**12)),
    st.tuples(st.one_of(st.none(), tokens), st.one_of(st.none(), tokens)),
    tokens,
)
def test_no_bill_exceeds_its_hold(
    price: int,
    unit: int,
    rounding: str,
    prompt: int,
    output: int,
    cost_max: int | None,
    claimed: tuple[int | None, int | None],
    seen: int,
) -> None:
    offer = replace(OFFER, price_cents=price, price_unit_tokens=unit, rounding=rounding)  # type: ignore[arg-type]
    budget = billing.paid_budget(
        offer,
        prompt_tokens=prompt,
        output_tokens=output,
        fee_basis_points=1_200,
        tolerance_percent=25,
        cost_microcents_max=cost_max,
    )
    if budget is None:
        return
    assert cost_max is None or budget.hold_microcents <= cost_max
    assert budget.output_tokens_max <= output
    completion = min(seen, budget.completion_tokens_max)
    count = Count(prompt, completion, *claimed)
    paid = billing.bill_tokens(count, tokens_max=budget.tokens_max, tolerance_percent=25, delivered=True)
    assert all(part >= 0 for part in paid)
    assert paid[0] <= prompt * 5 // 4
    assert paid[1] <= completion * 5 // 4
    total = heidrun.settle(sum(paid), price, unit, 1_200, rounding).total_microcents
    assert total <= budget.hold_microcents


def test_what_is_believed() -> None:
    assert billing.believed(100, None, 25) == 100
    assert billing.believed(100, 90, 25) == 90
    assert billing.believed(100, 120, 25) == 120
    assert billing.believed(100, 300, 25) == 125
    assert billing.exaggerates(Count(100, 100, 100, 126), 25)
    assert not billing.exaggerates(Count(100, 100, 125, 125), 25)
    assert not billing.exaggerates(Count(100, 100, None, None), 25)
    nothing = billing.bill_tokens(Count(50, 0, 50, 90), tokens_max=500, tolerance_percent=25, delivered=False)
    assert nothing == (0, 0)


def test_prices_are_exact() -> None:
    assert OFFER.price_microcents == 10 * 1_000_000 * 1_000
    assert replace(OFFER, price_unit_tokens=1_000_000).price_microcents == 10 * 1_000_000


@pytest.mark.parametrize(
    ("given_wishes", "field"),
    [
        ({"scope": "all"}, "scope"),
        ({"max_cost_cents": -1}, "max_cost_cents"),
        ({"max_cost_cents": 2**63}, "max_cost_cents"),
        ({"max_price_cents": -1}, "max_price_cents"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"only": ["x"] * 65}, "only"),
        ({"ignore": ["x" * 65]}, "ignore"),
    ],
)
def test_wishes_have_rules(given_wishes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        wishes_from(**given_wishes)  # type: ignore[arg-type]
    assert caught.value.field == field


@given(
    choices=st.integers(1, 16),
    prompt=st.integers(0, 5_000),
    output=st.integers(1, 5_000),
    cap=st.none() | st.integers(0, 50_000_000),
)
def test_a_budget_of_several_choices_lets_each_begin_and_none_go_beyond(
    choices: int, prompt: int, output: int, cap: int | None
) -> None:
    budget = billing.paid_budget(
        OFFER,
        prompt_tokens=prompt,
        output_tokens=output,
        fee_basis_points=1_200,
        tolerance_percent=25,
        cost_microcents_max=cap,
        choices=choices,
    )
    if budget is None:
        assert cap is not None
        return
    assert 1 <= budget.output_tokens_max <= output
    assert budget.output_tokens_max * choices <= budget.completion_tokens_max
    paid = heidrun.settle(budget.tokens_max, OFFER.price_cents, OFFER.price_unit_tokens, 1_200, "per_request")
    assert paid.total_microcents <= budget.hold_microcents
    assert cap is None or budget.hold_microcents <= cap
